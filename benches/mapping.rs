//! `mapping.docs_per_cpu_second`: id and document of one orders row (8 columns), from log bytes into a reused buffer.

use std::hint::black_box;
use std::time::Duration;

use everrelay::event::codec::{Row, RowWriter};
use everrelay::event::value::{Date, DateTime, Instant};
use everrelay::event::{Column, ColumnType, Op, TableName, TableSchema};
use everrelay::mapping::TableMapping;

const ROWS: u64 = 1_000;
const ROUNDS: u64 = 1_000;

fn main() {
    let column = |name: &str, ty| Column { name: name.to_owned(), ty, nullable: false };
    let integer = |bits| ColumnType::Integer { bits, unsigned: false };
    let schema = TableSchema {
        name: TableName::new("shop", "orders"),
        columns: vec![
            column("id", integer(64)),
            column("customer_id", integer(32)),
            column("status", ColumnType::Varchar),
            column("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
            column("note", ColumnType::Varchar),
            column("created_at", ColumnType::DateTime { decimals: 3 }),
            column("updated_at", ColumnType::Timestamp { decimals: 0 }),
            column("meta", ColumnType::Json),
        ],
        key: vec![0],
    };
    let rows: Vec<Vec<u8>> = (0..ROWS).map(row).collect();
    let mapping = TableMapping::new(&schema).expect("a legal table");
    let (mut id, mut body) = (String::new(), Vec::new());
    let mut rates = Vec::new();
    let mut bytes = 0;
    for _ in 0..4 {
        let started = cpu();
        for _ in 0..ROUNDS {
            body.clear();
            for row in &rows {
                mapping.id(Row::new(black_box(row)), &mut id).expect("a readable row");
                black_box(&id);
                mapping.document(Op::Insert, Row::new(black_box(row)), &mut body).expect("a readable row");
            }
            bytes = black_box(&body).len();
        }
        rates.push((ROWS * ROUNDS) as f64 / (cpu() - started).as_secs_f64());
    }
    // The first round touches memory for the first time.
    rates.remove(0);
    rates.sort_by(f64::total_cmp);
    println!("mapping.docs_per_cpu_second {:.0} docs/s", rates[1]);
    println!("mapping.document_bytes {} bytes", bytes as u64 / ROWS);
}

fn row(n: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = RowWriter::new(&mut bytes);
    writer.i64(1_000_000 + n as i64);
    writer.i64((n * 7_919 % 100_000) as i64);
    writer.text(["new", "paid", "shipped", "cancelled"][n as usize % 4]);
    writer.decimal(format!("{}.{:02}", n * 31 % 10_000, n % 100).as_bytes());
    writer.text(&format!(
        "Please leave it with the neighbour at number {n:04}; the bell does not work. Thank you."
    ));
    let date = Date { year: 2026, month: 1 + (n % 12) as u8, day: 1 + (n % 28) as u8 };
    writer.date_time(DateTime { date, micros: n * 86_399_999 % 86_400_000_000, decimals: 3 });
    writer.instant(Instant { micros: 1_763_880_000_000_000 + n * 1_000_000, decimals: 0 });
    writer.json(&format!("{{\"tags\": [\"a\", \"b{n}\"], \"source\": \"web\", \"priority\": {}}}", n % 5));
    bytes
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
