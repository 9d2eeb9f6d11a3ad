//! How fast a backlog is read: `cargo test --release --test real_source -- --ignored --nocapture rate`.

use everrelay::log::record::Batch;
use everrelay::source::mysql::MysqlSource;
use everrelay::source::{Source, Start};

use crate::server::Server;

/// CPU time of this process, seconds (a tick is 10 ms).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

#[tokio::test]
#[ignore = "a measurement, not a check"]
async fn rate_of_a_backlog() {
    let Some(mut server) = Server::new("rate").await else { return };
    server
        .run(
            "CREATE TABLE t (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, customer INT NOT NULL, state ENUM('new','paid','sent'), \
             total DECIMAL(12,2), note VARCHAR(200), email VARCHAR(100), created DATETIME(6), updated TIMESTAMP NULL, \
             flags SET('a','b','c'), score DOUBLE)",
        )
        .await;
    let mut source = MysqlSource::new(server.options()).unwrap();
    let start = source.resolve_start(&Start::Now).await.unwrap();
    server.run("SET SESSION cte_max_recursion_depth = 1000000").await;
    for _ in 0..20 {
        server
            .run(
                "INSERT INTO t (customer, state, total, note, email, created, updated, flags, score) \
                 WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 20000) \
                 SELECT i, 1 + i % 3, i * 1.37, CONCAT('a note of some length, number ', i), CONCAT('user', i, '@example.org'), \
                 NOW(6), NOW(), i % 8, i / 7 FROM n",
            )
            .await;
    }
    let target = server.executed().await;
    let name = format!("{}.t", server.schema);
    for (what, tables) in [("reading alone", "nothing.nothing"), ("with decoding", name.as_str())] {
        let mut options = server.options();
        options.tables = vec![tables.to_owned()];
        let mut source = MysqlSource::new(options).unwrap();
        source.connect(&start).await.unwrap();
        let (cpu, wall) = (cpu_seconds(), std::time::Instant::now());
        let (mut bytes, mut batches) = (0, 0);
        let mut batch = Batch::new();
        while !target.is_subset(source.gtids()) {
            batch.clear();
            source.fill(&mut batch).await.unwrap();
            bytes += batch.len();
            batches += 1;
        }
        println!(
            "{what}: {:.2} CPU s, {:.2} s, {} MB in {batches} batches for 400,000 changes",
            cpu_seconds() - cpu,
            wall.elapsed().as_secs_f64(),
            bytes >> 20
        );
    }
    server.run(&format!("DROP DATABASE {}", server.schema)).await;
}
