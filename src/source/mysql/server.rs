//! What a server says about itself, and which of its settings lose changes.

use std::collections::HashMap;

use super::error::MysqlError;
use super::link::shown;
use super::patterns::NameCase;
use super::schema::FULL_METADATA;

/// What a server says about itself.
#[derive(Clone, Debug)]
pub struct Server {
    name: String,
    pub version: String,
    pub uuid: [u8; 16],
    variables: HashMap<String, String>,
}

impl Server {
    /// `rows`: names and values of the server's variables, asked for at `address`.
    ///
    /// # Errors
    /// It is no MySQL 8.
    pub fn new(address: &str, rows: Vec<[String; 2]>) -> Result<Server, MysqlError> {
        let variables: HashMap<String, String> =
            rows.into_iter().map(|[name, value]| (name.to_ascii_lowercase(), value)).collect();
        let version = variables.get("version").map(|version| shown(version.as_bytes())).unwrap_or_default();
        let uuid = variables.get("server_uuid").and_then(|uuid| uuid::Uuid::try_parse(uuid).ok());
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match uuid {
            Some(uuid) if major.is_some_and(|major| major >= 8) && !version.contains("MariaDB") => {
                Ok(Server { name: address.to_owned(), version, uuid: *uuid.as_bytes(), variables })
            }
            _ => Err(MysqlError::Version { server: address.to_owned(), found: version }),
        }
    }

    /// # Errors
    /// A setting under which changes cannot be carried whole, with the statement that changes it.
    pub fn check(&self) -> Result<(), MysqlError> {
        const NEEDED: [(&str, &str, &str); 6] = [
            ("log_bin", "ON", "mysqld with --log-bin (a restart)"),
            (
                "gtid_mode",
                "ON",
                "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; \
                 SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON",
            ),
            ("binlog_format", "ROW", "SET PERSIST binlog_format = 'ROW'"),
            ("binlog_row_image", "FULL", "SET PERSIST binlog_row_image = 'FULL'"),
            ("binlog_row_metadata", "FULL", FULL_METADATA),
            ("binlog_row_value_options", "", "SET PERSIST binlog_row_value_options = ''"),
        ];
        for (name, needed, statement) in NEEDED {
            // A server without the variable has only the way that is needed; but metadata are missing before 8.0.1.
            let found = match self.variable(name) {
                Some(found) => found,
                None if name == "binlog_row_metadata" => "(unknown)",
                None => continue,
            };
            if !found.eq_ignore_ascii_case(needed) {
                let needed = if needed.is_empty() { "''" } else { needed };
                let (server, found) = (self.name.clone(), shown(found.as_bytes()));
                return Err(MysqlError::Setting { server, name, found, needed, statement });
            }
        }
        if self.variable("log_replica_updates").is_some_and(|v| v.eq_ignore_ascii_case("OFF")) {
            tracing::warn!(server = %self.name, "log_replica_updates is OFF: what this server replicates is not in its binlog");
        }
        Ok(())
    }

    /// How this server compares table names.
    #[must_use]
    pub fn name_case(&self) -> NameCase {
        match self.variable("lower_case_table_names") {
            Some("1" | "2") => NameCase::Insensitive,
            _ => NameCase::Sensitive,
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(changed: &[(&str, &str)]) -> Server {
        let good = [
            ("log_bin", "ON"),
            ("gtid_mode", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("binlog_row_value_options", ""),
        ];
        let variables = good.iter().chain(changed).map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Server { name: "db:3306".into(), version: "8.4.0".into(), uuid: [0; 16], variables }
    }

    #[test]
    fn each_setting_that_loses_changes_is_refused_with_the_statement_that_mends_it() {
        assert!(server(&[]).check().is_ok());
        for (name, value, statement) in [
            ("log_bin", "OFF", "--log-bin"),
            ("gtid_mode", "ON_PERMISSIVE", "SET PERSIST gtid_mode = ON"),
            ("binlog_format", "MIXED", "SET PERSIST binlog_format = 'ROW'"),
            ("binlog_row_image", "MINIMAL", "SET PERSIST binlog_row_image = 'FULL'"),
            ("binlog_row_metadata", "MINIMAL", "SET PERSIST binlog_row_metadata = 'FULL'"),
            ("binlog_row_value_options", "PARTIAL_JSON", "SET PERSIST binlog_row_value_options = ''"),
        ] {
            let text = server(&[(name, value)]).check().unwrap_err().to_string();
            assert!(text.contains(statement) && text.contains(value) && text.contains("db:3306"), "{text}");
        }
    }

    #[test]
    fn what_a_server_says_is_shown_cut_and_escaped() {
        let found = format!("MIXED\x1b[2J{}", "x".repeat(9_000));
        let text = server(&[("binlog_format", &found)]).check().unwrap_err().to_string();
        assert!(text.contains("MIXED\\u{1b}[2J") && text.len() < 2_000, "{text}");
    }

    #[test]
    fn case_follows_lower_case_table_names() {
        assert_eq!(server(&[]).name_case(), NameCase::Sensitive);
        assert_eq!(server(&[("lower_case_table_names", "1")]).name_case(), NameCase::Insensitive);
    }
}
