//! A small shop: the tables that are followed, and the rows that they begin with.

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{content, mysql};

/// The tables that hold the shop's data, in the order in which they are shown.
pub const TABLES: &[&str] = &["customers", "products", "orders", "order_items"];

/// The table whose single row tells how far the relay is behind: see [`super::pulse`].
pub const PULSE: &str = "pulse";

/// Rows per INSERT while seeding, and INSERTs per transaction.
const BATCH: u64 = 250;

/// How large the shop is when it opens.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub customers: u64,
    pub products: u64,
    pub orders: u64,
    pub items: u64,
}

impl Scale {
    /// About so many rows over all tables.
    #[must_use]
    pub fn of_rows(rows: u64) -> Scale {
        let (products, customers, orders) = ((rows / 20).max(20), (rows / 8).max(20), (rows / 4).max(20));
        Scale {
            customers,
            products,
            orders,
            items: rows.saturating_sub(products + customers + orders).max(20),
        }
    }

    #[must_use]
    pub fn rows(&self) -> u64 {
        self.customers + self.products + self.orders + self.items
    }
}

/// The shop in one schema of its own, and a neighbour that nobody follows.
#[derive(Clone, Debug)]
pub struct Shop {
    pub mysql_url: String,
    pub schema: String,
}

impl Shop {
    #[must_use]
    pub fn new(mysql_url: &str, schema: &str) -> Shop {
        Shop { mysql_url: mysql_url.to_owned(), schema: schema.to_owned() }
    }

    /// The schema of a table that is not followed.
    #[must_use]
    pub fn neighbour(&self) -> String {
        format!("{}_neighbour", self.schema)
    }

    /// Every table that the comparison looks at.
    #[must_use]
    pub fn tables(&self) -> Vec<&'static str> {
        TABLES.iter().copied().chain([PULSE]).collect()
    }

    /// Makes the schema and its empty tables.
    ///
    /// # Errors
    /// The server fails, or the schema is there already.
    pub async fn create(&self) -> Result<()> {
        let (schema, neighbour) = (&self.schema, self.neighbour());
        let charset = "CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci";
        mysql::execute(
            &self.mysql_url,
            [
                format!("CREATE DATABASE `{schema}` {charset}"),
                format!("CREATE DATABASE `{neighbour}` {charset}"),
                format!("CREATE TABLE `{neighbour}`.noise (id INT PRIMARY KEY, hum VARCHAR(100))"),
                format!(
                    "CREATE TABLE `{schema}`.customers (
                        id BIGINT UNSIGNED PRIMARY KEY AUTO_INCREMENT,
                        email VARCHAR(120) NOT NULL,
                        name VARCHAR(200) NOT NULL,
                        country CHAR(2) NOT NULL,
                        interests SET('books','music','games','garden','travel') NOT NULL,
                        balance DECIMAL(14,2) NOT NULL,
                        discount DECIMAL(6,3),
                        profile JSON,
                        notes TEXT,
                        born DATE,
                        created_at DATETIME(3) NOT NULL,
                        updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)"
                ),
                format!(
                    "CREATE TABLE `{schema}`.products (
                        sku VARCHAR(64) PRIMARY KEY,
                        title VARCHAR(400) NOT NULL,
                        price DECIMAL(10,2) NOT NULL,
                        weight DOUBLE,
                        rating FLOAT,
                        stock INT NOT NULL,
                        kind ENUM('book','record','game','tool','groß') NOT NULL,
                        attributes JSON,
                        barcode BINARY(8) NOT NULL,
                        released YEAR NOT NULL,
                        available BIT(1) NOT NULL,
                        updated_at TIMESTAMP(6) NOT NULL)"
                ),
                format!(
                    "CREATE TABLE `{schema}`.orders (
                        id BIGINT UNSIGNED PRIMARY KEY,
                        customer_id BIGINT UNSIGNED NOT NULL,
                        status ENUM('new','paid','packed','shipped','returned') NOT NULL,
                        amount DECIMAL(12,2) NOT NULL,
                        note VARCHAR(500),
                        meta JSON,
                        placed_at DATETIME(3) NOT NULL,
                        updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP)"
                ),
                format!(
                    "CREATE TABLE `{schema}`.order_items (
                        order_id BIGINT UNSIGNED NOT NULL,
                        line SMALLINT UNSIGNED NOT NULL,
                        sku VARCHAR(64) NOT NULL,
                        quantity INT UNSIGNED NOT NULL,
                        price DECIMAL(10,2) NOT NULL,
                        packed_in TIME(2),
                        PRIMARY KEY (order_id, line))"
                ),
                format!(
                    "CREATE TABLE `{schema}`.{PULSE} (id INT PRIMARY KEY, beat BIGINT UNSIGNED NOT NULL)"
                ),
                format!("INSERT INTO `{schema}`.{PULSE} VALUES (1, 0)"),
            ],
        )
        .await
    }

    /// Fills the tables with random rows: products `p1`…, customers and orders from 1, items spread over the orders.
    ///
    /// # Errors
    /// The server fails.
    pub async fn seed(&self, scale: Scale, seed: u64) -> Result<()> {
        let customers = self.fill("customers", CUSTOMER_COLUMNS, scale.customers, seed, |rng, n| {
            format!("{},{}", n + 1, content::customer(rng))
        });
        let products = self.fill("products", PRODUCT_COLUMNS, scale.products, seed ^ 1, |rng, n| {
            format!("'{}',{}", sku(n + 1), content::product(rng))
        });
        let orders = self.fill("orders", ORDER_COLUMNS, scale.orders, seed ^ 2, |rng, n| {
            let customer = rng.random_range(1..=scale.customers);
            format!("{},{}", n + 1, content::order(rng, customer))
        });
        let items = self.fill("order_items", ITEM_COLUMNS, scale.items, seed ^ 3, |rng, n| {
            let (order, line) = (n % scale.orders + 1, n / scale.orders + 1);
            let sku = sku(rng.random_range(1..=scale.products));
            format!("{order},{line},{}", content::item(rng, &sku))
        });
        tokio::try_join!(customers, products, orders, items)?;
        Ok(())
    }

    async fn fill(
        &self,
        table: &str,
        columns: &str,
        rows: u64,
        seed: u64,
        row: impl Fn(&mut StdRng, u64) -> String,
    ) -> Result<()> {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut inserts = Vec::new();
        for first in (0..rows).step_by(BATCH as usize) {
            let values: Vec<String> =
                (first..rows.min(first + BATCH)).map(|n| format!("({})", row(&mut rng, n))).collect();
            inserts.push(format!(
                "INSERT INTO `{}`.{table} ({columns}) VALUES {}",
                self.schema,
                values.join(",")
            ));
        }
        mysql::execute(&self.mysql_url, inserts).await
    }

    /// Drops both schemas.
    ///
    /// # Errors
    /// The server fails.
    pub async fn drop(&self) -> Result<()> {
        mysql::execute(
            &self.mysql_url,
            [
                format!("DROP DATABASE IF EXISTS `{}`", self.schema),
                format!("DROP DATABASE IF EXISTS `{}`", self.neighbour()),
            ],
        )
        .await
    }
}

pub const CUSTOMER_COLUMNS: &str =
    "id,email,name,country,interests,balance,discount,profile,notes,born,created_at";
pub const PRODUCT_COLUMNS: &str =
    "sku,title,price,weight,rating,stock,kind,attributes,barcode,released,available,updated_at";
pub const ORDER_COLUMNS: &str = "id,customer_id,status,amount,note,meta,placed_at";
pub const ITEM_COLUMNS: &str = "order_id,line,sku,quantity,price,packed_in";

/// The key of the nth product that the shop opened with.
#[must_use]
pub fn sku(n: u64) -> String {
    format!("p{n}")
}
