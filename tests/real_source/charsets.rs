//! Every character of every character set that is decoded reads as the server converts it.

use everrelay::source::mysql::charset::Charset;
use mysql_async::prelude::Queryable;

use crate::server::Server;

#[tokio::test]
async fn every_character_converts_as_the_server_converts_it() {
    let mut server = Server::new("charsets").await;
    server.run("SET SESSION cte_max_recursion_depth = 100000, sql_mode = ''").await;
    let sets: Vec<(String, u64, u8)> = server
        .conn
        .query(
            "SELECT c.character_set_name, n.id, c.maxlen FROM information_schema.character_sets c \
             JOIN information_schema.collations n ON n.collation_name = c.default_collate_name \
             WHERE c.character_set_name NOT IN ('binary', 'utf8mb4', 'utf8mb3', 'ascii', 'utf32', 'utf16', 'ucs2', 'utf16le')",
        )
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for (name, collation, max_length) in sets {
        let Ok(charset) = Charset::of_collation(collation) else {
            println!("{name}: not decoded");
            continue;
        };
        let two = if max_length > 1 { "UNION ALL SELECT CHAR(128 + n DIV 256, n % 256) FROM n" } else { "" };
        let rows: Vec<(Vec<u8>, Option<String>)> = server
            .conn
            .query(format!(
                "WITH RECURSIVE n AS (SELECT 0 n UNION ALL SELECT n + 1 FROM n WHERE n < 32767), \
                 b AS (SELECT CHAR(n) c FROM n WHERE n < 256 {two}) \
                 SELECT c, CONVERT(CONVERT(c USING {name}) USING utf8mb4) FROM b"
            ))
            .await
            .unwrap();
        let (mut same, mut replaced, mut differ) = (0, 0, Vec::new());
        let mut alone = std::collections::HashSet::new();
        for (bytes, server_text) in rows {
            let Some(server_text) = server_text.filter(|t| !t.contains('?') || bytes.contains(&b'?')) else {
                continue;
            };
            // A lead byte alone is no character to the server.
            if server_text.is_empty() {
                continue;
            }
            // A character and something behind it: those come by themselves.
            match bytes.as_slice() {
                [first] => drop(alone.insert(*first)),
                [first, ..] if alone.contains(first) => continue,
                _ => {}
            }
            let mut scratch = String::new();
            let (ours, bad) = charset.decode(&bytes, &mut scratch);
            if ours == server_text {
                same += 1;
            } else if bad {
                replaced += 1;
            } else {
                differ.push(format!("{bytes:02x?} server {server_text:?} ours {ours:?}"));
            }
        }
        println!("{name}: {same} same, {replaced} replaced, {} differ", differ.len());
        differ.iter().take(12).for_each(|line| println!("    {line}"));
        if replaced > 0 || !differ.is_empty() {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
