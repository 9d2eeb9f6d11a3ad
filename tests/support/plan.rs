//! A seeded, endless list of transactions.
//!
//! A plan never looks at the server: the same seed and connection give the same statements, whatever became of them.
//! Statements are therefore written so that they may find nothing (UPDATE, DELETE) or something (REPLACE, IGNORE).

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::content::{self, KINDS, STATUSES, money, phrase, pick, profile};
use super::mysql::quoted;
use super::shop::{CUSTOMER_COLUMNS, ITEM_COLUMNS, ORDER_COLUMNS, PRODUCT_COLUMNS, Scale, Shop, sku};

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Commit,
    Rollback,
}

/// What one connection says from BEGIN on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub statements: Vec<String>,
    pub end: End,
}

/// One connection's transactions.
#[derive(Debug)]
pub struct Plan {
    rng: StdRng,
    scale: Scale,
    schema: String,
    neighbour: String,
    connection: u64,
    connections: u64,
    orders_placed: u64,
    skus_made: u64,
}

/// Products that nearly every order wants.
const HOT: u64 = 5;

impl Plan {
    #[must_use]
    pub fn new(shop: &Shop, scale: Scale, seed: u64, connection: u64, connections: u64) -> Plan {
        Plan {
            rng: StdRng::seed_from_u64(seed.wrapping_mul(1_000_003).wrapping_add(connection)),
            scale,
            schema: shop.schema.clone(),
            neighbour: shop.neighbour(),
            connection,
            connections,
            orders_placed: 0,
            skus_made: 0,
        }
    }

    /// The next transaction; there is always one.
    pub fn next_transaction(&mut self) -> Transaction {
        let mut end = End::Commit;
        let statements = match self.rng.random_range(0..1000) {
            0..250 => self.place_order(),
            250..450 => self.touch_orders(),
            450..600 => self.wear_out_a_hot_row(),
            600..700 => self.update_customers(),
            700..760 => self.cancel_order(),
            760..820 => self.delete_and_insert_again(),
            820..880 => self.change_keys(),
            880..910 => self.stock_up(),
            910..935 => self.change_ones_mind(),
            935..965 => {
                end = End::Rollback;
                [self.place_order(), self.cancel_order(), self.change_keys()].concat()
            }
            965..999 => vec![format!(
                "REPLACE INTO `{}`.noise VALUES ({}, {})",
                self.neighbour,
                self.rng.random_range(0..50),
                quoted(&phrase(&mut self.rng, 5))
            )],
            _ => self.big(),
        };
        Transaction { statements, end }
    }

    /// Order, items, stock and the customer's balance: three or four tables in one transaction.
    fn place_order(&mut self) -> Vec<String> {
        let order = self.new_order_id();
        let customer = self.customer();
        let lines = self.rng.random_range(1..=5);
        let mut statements = vec![format!(
            "REPLACE INTO `{}`.orders ({ORDER_COLUMNS}) VALUES ({order},{})",
            self.schema,
            content::order(&mut self.rng, customer)
        )];
        for line in 1..=lines {
            let sku = self.product();
            statements.push(format!(
                "REPLACE INTO `{}`.order_items ({ITEM_COLUMNS}) VALUES ({order},{line},{})",
                self.schema,
                content::item(&mut self.rng, &sku)
            ));
            statements
                .push(format!("UPDATE `{}`.products SET stock = stock - 1 WHERE sku = '{sku}'", self.schema));
        }
        statements.push(format!(
            "UPDATE `{}`.customers SET balance = balance - 0.01, \
             profile = JSON_SET(profile, '$.visits', {}) WHERE id = {customer}",
            self.schema,
            self.rng.random_range(0..1000)
        ));
        statements
    }

    fn touch_orders(&mut self) -> Vec<String> {
        let first = self.order();
        let note = quoted(&phrase(&mut self.rng, 12));
        vec![format!(
            "UPDATE `{}`.orders SET status = {}, note = {note}, amount = amount + 0.10 \
             WHERE id BETWEEN {first} AND {}",
            self.schema,
            quoted(pick(&mut self.rng, STATUSES)),
            first + self.rng.random_range(0..4)
        )]
    }

    /// The same row many times over, in one transaction.
    fn wear_out_a_hot_row(&mut self) -> Vec<String> {
        let sku = sku(self.rng.random_range(1..=HOT));
        (0..self.rng.random_range(1..15))
            .map(|_| {
                format!(
                    "UPDATE `{}`.products SET stock = stock + {}, rating = {}, title = {} WHERE sku = '{sku}'",
                    self.schema,
                    self.rng.random_range(-3..5),
                    self.rng.random_range(0.0..5.0f32),
                    quoted(&phrase(&mut self.rng, 4))
                )
            })
            .collect()
    }

    fn update_customers(&mut self) -> Vec<String> {
        let (customer, other) = (self.customer(), self.customer());
        let born = if self.rng.random_bool(0.5) { "NULL" } else { "'2000-02-29'" };
        vec![
            format!(
                "UPDATE `{}`.customers SET profile = {}, born = {born} WHERE id = {customer}",
                self.schema,
                profile(&mut self.rng)
            ),
            format!(
                "INSERT INTO `{}`.customers ({CUSTOMER_COLUMNS}) VALUES ({other},{}) \
                 ON DUPLICATE KEY UPDATE balance = balance + 1.00, name = VALUES(name)",
                self.schema,
                content::customer(&mut self.rng)
            ),
        ]
    }

    fn cancel_order(&mut self) -> Vec<String> {
        let order = self.order();
        vec![
            format!("DELETE FROM `{}`.order_items WHERE order_id = {order}", self.schema),
            format!("DELETE FROM `{}`.orders WHERE id = {order}", self.schema),
        ]
    }

    /// The same key deleted and there again, within one transaction.
    fn delete_and_insert_again(&mut self) -> Vec<String> {
        let (order, customer) = (self.order(), self.customer());
        let again = self.product();
        vec![
            format!("DELETE FROM `{}`.orders WHERE id = {order}", self.schema),
            format!(
                "INSERT INTO `{}`.orders ({ORDER_COLUMNS}) VALUES ({order},{})",
                self.schema,
                content::order(&mut self.rng, customer)
            ),
            format!("DELETE FROM `{}`.products WHERE sku = '{again}'", self.schema),
            format!(
                "INSERT INTO `{}`.products ({PRODUCT_COLUMNS}) VALUES ('{again}',{})",
                self.schema,
                content::product(&mut self.rng)
            ),
        ]
    }

    /// Rows that get another key; some get the key of a row deleted just before, some one that differs in case alone.
    fn change_keys(&mut self) -> Vec<String> {
        self.skus_made += 1;
        let (from, to, cased) = (self.product(), self.product(), self.product());
        let new = format!("new|{}\\{}", self.connection, self.skus_made % 20);
        let order = self.order();
        let other = self.order();
        vec![
            format!(
                "UPDATE IGNORE `{}`.products SET sku = {} WHERE sku = '{from}'",
                self.schema,
                quoted(&new)
            ),
            format!("DELETE FROM `{}`.products WHERE sku = '{to}'", self.schema),
            format!(
                "UPDATE IGNORE `{}`.products SET sku = '{to}', stock = 1 WHERE sku = {}",
                self.schema,
                quoted(&new)
            ),
            format!(
                "UPDATE IGNORE `{}`.products SET sku = IF(BINARY sku = BINARY UPPER(sku), LOWER(sku), UPPER(sku)) \
                 WHERE sku = '{cased}'",
                self.schema
            ),
            format!(
                "UPDATE `{}`.order_items SET line = line + 100 WHERE order_id = {order} AND line < 60000 \
                 ORDER BY line DESC",
                self.schema
            ),
            format!("UPDATE IGNORE `{}`.orders SET id = {other} WHERE id = {order}", self.schema),
        ]
    }

    /// Many rows by one statement, and products that come (again).
    fn stock_up(&mut self) -> Vec<String> {
        let mut statements = vec![format!(
            "UPDATE `{}`.products SET price = price + 0.01 WHERE kind = {} ORDER BY sku LIMIT 50",
            self.schema,
            quoted(pick(&mut self.rng, KINDS))
        )];
        for _ in 0..3 {
            let sku = self.product();
            statements.push(format!(
                "REPLACE INTO `{}`.products ({PRODUCT_COLUMNS}) VALUES ('{sku}',{})",
                self.schema,
                content::product(&mut self.rng)
            ));
        }
        statements
    }

    /// Half of a transaction taken back.
    fn change_ones_mind(&mut self) -> Vec<String> {
        let mut statements = self.touch_orders();
        statements.push("SAVEPOINT here".to_owned());
        statements.extend(self.cancel_order());
        statements.extend(self.place_order());
        statements.push("ROLLBACK TO SAVEPOINT here".to_owned());
        statements.extend(self.update_customers());
        statements
    }

    /// Some thousands of rows in one transaction: inserted under new keys, updated, and partly deleted.
    fn big(&mut self) -> Vec<String> {
        let mut statements = Vec::new();
        for _ in 0..self.rng.random_range(4..12) {
            let order = self.new_order_id();
            let rows: Vec<String> = (1..=300)
                .map(|line| {
                    let sku = self.product();
                    format!("({order},{line},{})", content::item(&mut self.rng, &sku))
                })
                .collect();
            statements.push(format!(
                "REPLACE INTO `{}`.order_items ({ITEM_COLUMNS}) VALUES {}",
                self.schema,
                rows.join(",")
            ));
            statements.push(format!(
                "UPDATE `{}`.order_items SET price = {} WHERE order_id = {order}",
                self.schema,
                money(&mut self.rng, 100)
            ));
            statements.push(format!(
                "DELETE FROM `{}`.order_items WHERE order_id = {order} AND line > {}",
                self.schema,
                self.rng.random_range(0..300)
            ));
        }
        statements
    }

    /// An id that no other connection makes.
    fn new_order_id(&mut self) -> u64 {
        self.orders_placed += 1;
        self.scale.orders + self.orders_placed * self.connections + self.connection
    }

    fn customer(&mut self) -> u64 {
        // Some more than there are at first.
        self.rng.random_range(1..=self.scale.customers + self.scale.customers / 10 + 1)
    }

    fn product(&mut self) -> String {
        let last = if self.rng.random_bool(0.3) { HOT } else { self.scale.products };
        sku(self.rng.random_range(1..=last))
    }

    fn order(&mut self) -> u64 {
        let newest = self.scale.orders + (self.orders_placed + 1) * self.connections;
        if self.rng.random_bool(0.5) {
            self.rng.random_range(1..=self.scale.orders)
        } else {
            self.rng.random_range(newest.saturating_sub(200).max(1)..=newest)
        }
    }
}
