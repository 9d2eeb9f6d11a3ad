//! Schema changes as gh-ost and pt-online-schema-change carry them out: a copy of the table beside it, kept up to date, and a rename swap.

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::server::{At, Follower, Server};

at_each!(
    fault_57_a_table_that_gh_ost_swapped_goes_on_under_its_name_and_needs_a_snapshot,
    fault_57_a_table_that_pt_online_schema_change_swapped_goes_on_under_its_name_and_needs_a_snapshot,
);

/// The rows of `t` that came, and nothing of the tables beside it.
async fn follow(server: &mut Server) -> Follower {
    server.run("CREATE TABLE t (id INT PRIMARY KEY, a INT, b VARCHAR(20))").await;
    let mut options = server.options();
    options.tables = vec![format!("{}.t", server.schema)];
    let mut follower = server.follow_with(options).await;
    server.run("INSERT INTO t VALUES (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'z')").await;
    follower.catch_up(server).await;
    follower
}

async fn run_all(server: &mut Server, statements: &[&str]) {
    for sql in statements {
        server.run(sql).await;
    }
}

/// What the swap left, and that rows come by the new columns. Read by another connection, after all of it.
async fn holds_after_the_swap(server: &mut Server, mut follower: Follower, renamed: &str) {
    run_all(server, &["UPDATE t SET c = 'new' WHERE id = 1", "INSERT INTO t VALUES ('first', 9, 90)"]).await;
    follower.connect_again().await;
    follower.catch_up(server).await;
    let expected = [
        "insert t 1,10,x",
        "insert t 2,20,y",
        "insert t 3,30,z",
        // While it was copied.
        "update t 2,21,y",
        "delete t 3,30,z",
        // By the columns of the copy.
        "update t new,1,10",
        "insert t first,9,90",
    ];
    assert_eq!(follower.briefs(), expected);
    let schema = &server.schema;
    let gaps = &follower.read.standing.gaps;
    let said: Vec<_> = gaps.iter().map(|gap| format!("{}: {}", gap.table.table, gap.why)).collect();
    assert_eq!(said, [format!("t: RENAME TABLE to {schema}.{renamed}")]);
    server.run(&format!("DROP DATABASE {schema}")).await;
}

async fn fault_57_a_table_that_gh_ost_swapped_goes_on_under_its_name_and_needs_a_snapshot(at: At) {
    let mut server = Server::on(at, "gh_ost").await;
    let follower = follow(&mut server).await;
    let schema = server.schema.clone();
    let named = |sql: &str| sql.replace("DB.", &format!("`{schema}`."));
    for sql in [
        "create /* gh-ost */ table DB.`_t_ghc` (id bigint unsigned auto_increment, hint varchar(64) charset ascii not null, \
         value varchar(4096) charset ascii not null, primary key(id), unique key hint_uidx(hint)) auto_increment=256 comment='gh-ost'",
        "create /* gh-ost */ table DB.`_t_gho` like DB.`t`",
        "alter /* gh-ost */ table DB.`_t_gho` DROP COLUMN b, ADD COLUMN c VARCHAR(20) DEFAULT 'old' FIRST",
        "insert /* gh-ost */ into DB.`_t_ghc` (id, hint, value) values (NULLIF(2, 0), 'state', 'GhostTableMigrated') \
         on duplicate key update value=VALUES(value)",
        "insert /* gh-ost DB.`t` */ ignore into DB.`_t_gho` (`id`, `a`) (select `id`, `a` from DB.`t` force index (`PRIMARY`) \
         where (((`id` > 0) or ((`id` = 0))) and ((`id` < 3) or ((`id` = 3))) and TRUE) lock in share mode)",
        "UPDATE t SET a = 21 WHERE id = 2",
        "replace /* gh-ost DB.`_t_gho` */ into DB.`_t_gho` (`id`, `a`) values (2, 21)",
        "DELETE FROM t WHERE id = 3",
        "delete /* gh-ost DB.`_t_gho` */ from DB.`_t_gho` where ((`id` = 3))",
        "create /* gh-ost */ table DB.`_t_del` (id int auto_increment primary key) engine=InnoDB comment='ghost-cut-over-sentry'",
    ] {
        server.run(&named(sql)).await;
    }
    // The swap waits for the locks, and comes before whoever waited to write.
    server.run(&named("lock /* gh-ost */ tables DB.`t` write, DB.`_t_del` write")).await;
    let mut swapper = Conn::new(server.opts().clone()).await.expect("another connection");
    let swapper_id = swapper.id();
    let rename = named("rename /* gh-ost */ table DB.`t` to DB.`_t_del`, DB.`_t_gho` to DB.`t`");
    let swap = tokio::spawn(async move { swapper.query_drop(rename).await });
    let waits = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE id = {swapper_id} AND state LIKE 'Waiting for table metadata lock%'"
    );
    // Another, since tables that are not locked cannot be read here.
    let mut watcher = Conn::new(server.opts().clone()).await.expect("another connection");
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while watcher.query_first::<u64, _>(&waits).await.expect("the list") != Some(1) {
        assert!(std::time::Instant::now() < until, "the rename waits for the lock");
        tokio::task::yield_now().await;
    }
    server.run(&named("drop /* gh-ost */ table if exists DB.`_t_del`")).await;
    server.run("unlock tables").await;
    swap.await.expect("no panic").expect("the rename");
    server.run(&named("drop /* gh-ost */ table if exists DB.`_t_ghc`")).await;
    server.run(&named("drop /* gh-ost */ table if exists DB.`_t_del`")).await;
    holds_after_the_swap(&mut server, follower, "_t_del").await;
}

async fn fault_57_a_table_that_pt_online_schema_change_swapped_goes_on_under_its_name_and_needs_a_snapshot(
    at: At,
) {
    let mut server = Server::on(at, "pt_osc").await;
    let follower = follow(&mut server).await;
    let schema = server.schema.clone();
    let named = |sql: &str| sql.replace("DB.", &format!("`{schema}`."));
    for sql in [
        "CREATE TABLE DB.`_t_new` (`id` int NOT NULL, `a` int DEFAULT NULL, `b` varchar(20) DEFAULT NULL, PRIMARY KEY (`id`))",
        "ALTER TABLE DB.`_t_new` DROP COLUMN b, ADD COLUMN c VARCHAR(20) DEFAULT 'old' FIRST",
        "CREATE TRIGGER `pt_osc_t_del` AFTER DELETE ON DB.`t` FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR 1146 begin end; \
         DELETE IGNORE FROM DB.`_t_new` WHERE DB.`_t_new`.`id` <=> OLD.`id`; END",
        "CREATE TRIGGER `pt_osc_t_upd` AFTER UPDATE ON DB.`t` FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR 1146 begin end; \
         DELETE IGNORE FROM DB.`_t_new` WHERE !(OLD.`id` <=> NEW.`id`) AND DB.`_t_new`.`id` <=> OLD.`id`; \
         REPLACE INTO DB.`_t_new` (`id`, `a`) VALUES (NEW.`id`, NEW.`a`); END",
        "CREATE TRIGGER `pt_osc_t_ins` AFTER INSERT ON DB.`t` FOR EACH ROW BEGIN DECLARE CONTINUE HANDLER FOR 1146 begin end; \
         REPLACE INTO DB.`_t_new` (`id`, `a`) VALUES (NEW.`id`, NEW.`a`); END",
        "INSERT LOW_PRIORITY IGNORE INTO DB.`_t_new` (`id`, `a`) SELECT `id`, `a` FROM DB.`t` LOCK IN SHARE MODE \
         /*pt-online-schema-change 4711 copy table*/",
        "UPDATE t SET a = 21 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "ANALYZE TABLE DB.`_t_new` /* pt-online-schema-change */",
        "RENAME TABLE DB.`t` TO DB.`_t_old`, DB.`_t_new` TO DB.`t`",
        "DROP TABLE IF EXISTS DB.`_t_old`",
        "DROP TRIGGER IF EXISTS DB.`pt_osc_t_del`",
        "DROP TRIGGER IF EXISTS DB.`pt_osc_t_upd`",
        "DROP TRIGGER IF EXISTS DB.`pt_osc_t_ins`",
    ] {
        server.run(&named(sql)).await;
    }
    holds_after_the_swap(&mut server, follower, "_t_old").await;
}
