//! Kinds of DDL, what its rows are, and what it leaves behind.

/// `t`, and which of its documents are not what its rows are.
pub struct Case {
    /// Behind the CREATE of `t (id INT PRIMARY KEY, a INT, b VARCHAR(20))` and its first rows.
    pub sql: &'static [&'static str],
    pub rows: &'static [&'static str],
    pub gaps: &'static [&'static str],
}

pub const CASES: &[Case] = &[
    Case {
        sql: &[
            "ALTER TABLE t ADD COLUMN c INT",
            "INSERT INTO t VALUES (3, 30, 'z', 7)",
            "UPDATE t SET a = 11 WHERE id = 1",
        ],
        rows: &["insert t id=3,a=30,b=z,c=7", "update t id=1,a=11,b=x,c=NULL"],
        gaps: &[],
    },
    Case {
        sql: &["ALTER TABLE t ADD c INT DEFAULT 5 FIRST", "UPDATE t SET a = 11 WHERE id = 1"],
        rows: &["update t c=5,id=1,a=11,b=x"],
        gaps: &["t: ADD COLUMN c with a value for the rows that were there"],
    },
    Case {
        sql: &["ALTER TABLE t DROP COLUMN a", "INSERT INTO t VALUES (3, 'z')"],
        rows: &["insert t id=3,b=z"],
        gaps: &["t: DROP COLUMN a: documents keep it until their rows change"],
    },
    Case {
        sql: &["ALTER TABLE t RENAME COLUMN a TO n", "INSERT INTO t VALUES (3, 30, 'z')"],
        rows: &["insert t id=3,n=30,b=z"],
        gaps: &["t: RENAME COLUMN a to n: documents keep the old name until their rows change"],
    },
    // The columns change places, in a way that no table map without names shows.
    Case {
        sql: &[
            "ALTER TABLE t RENAME COLUMN id TO a, RENAME COLUMN a TO id",
            "INSERT INTO t VALUES (3, 30, 'z')",
        ],
        rows: &["insert t a=3,id=30,b=z"],
        gaps: &["t: RENAME COLUMN id to a: documents keep the old name until their rows change"],
    },
    Case {
        sql: &[
            "ALTER TABLE t MODIFY a INT FIRST",
            "INSERT INTO t VALUES (30, 3, 'z')",
            "DELETE FROM t WHERE a = 10",
        ],
        rows: &["insert t a=30,id=3,b=z", "delete t a=10,id=1,b=x"],
        gaps: &[],
    },
    Case {
        sql: &[
            "ALTER TABLE t MODIFY a BIGINT NOT NULL COMMENT 'wide', MODIFY b VARCHAR(200)",
            "INSERT INTO t VALUES (3, 3000000000, 'zzz')",
            "UPDATE t SET a = 11, b = 'x' WHERE id = 3",
        ],
        rows: &["insert t id=3,a=3000000000,b=zzz", "update t id=3,a=11,b=x"],
        gaps: &[],
    },
    Case {
        sql: &["ALTER TABLE t MODIFY a DECIMAL(10,2)", "INSERT INTO t VALUES (3, 30, 'z')"],
        rows: &["insert t id=3,a=30.00,b=z"],
        gaps: &["t: MODIFY COLUMN a: its values may be others"],
    },
    Case {
        sql: &["ALTER TABLE t MODIFY b VARCHAR(10)", "INSERT INTO t VALUES (3, 30, 'z')"],
        rows: &["insert t id=3,a=30,b=z"],
        gaps: &["t: MODIFY COLUMN b: its values may be others"],
    },
    Case {
        sql: &["ALTER TABLE t CONVERT TO CHARACTER SET latin1", "INSERT INTO t VALUES (3, 30, 'ü')"],
        rows: &["insert t id=3,a=30,b=ü"],
        gaps: &[],
    },
    Case {
        sql: &[
            "ALTER TABLE t ADD e ENUM('x', 'it''s', 'a\\\\b', 'n\\nl', 'ü') CHARACTER SET latin1, ADD s SET('p', 'q')",
            "INSERT INTO t VALUES (3, 30, 'z', 'it''s', 'p,q'), (4, 40, 'z', 'a\\\\b', ''), (5, 50, 'z', 'n\\nl', 'q'), (6, 60, 'z', 'ü', NULL)",
            "ALTER TABLE t MODIFY e ENUM('x', 'it''s', 'new', 'a\\\\b', 'n\\nl', 'ü')",
            "UPDATE t SET e = 'new' WHERE id = 3",
        ],
        rows: &[
            "insert t id=3,a=30,b=z,e=it's,s=p,q",
            "insert t id=4,a=40,b=z,e=a\\b,s=",
            "insert t id=5,a=50,b=z,e=n\nl,s=q",
            "insert t id=6,a=60,b=z,e=ü,s=NULL",
            "update t id=3,a=30,b=z,e=new,s=p,q",
        ],
        // An escape in a label is not compared.
        gaps: &["t: MODIFY COLUMN e: its values may be others"],
    },
    Case {
        sql: &[
            "ALTER TABLE t ADD INDEX (a), ADD FULLTEXT (b), COMMENT 'x'",
            "CREATE UNIQUE INDEX u ON t (a)",
            "DROP INDEX u ON t",
            "INSERT INTO t VALUES (3, 30, 'z')",
        ],
        rows: &["insert t id=3,a=30,b=z"],
        gaps: &[],
    },
    Case {
        sql: &[
            "ALTER TABLE t DROP PRIMARY KEY, ADD PRIMARY KEY (a)",
            "INSERT INTO t VALUES (3, 30, 'z')",
            "UPDATE t SET a = 31 WHERE a = 30",
        ],
        rows: &["insert t id=3,a=30,b=z", "rekey t id=3,a=31,b=z was 30"],
        gaps: &["t: another PRIMARY KEY: documents stay under their old ids"],
    },
    Case {
        sql: &["RENAME TABLE t TO n", "INSERT INTO n VALUES (3, 30, 'z')"],
        rows: &["insert n id=3,a=30,b=z"],
        gaps: &["n: RENAME TABLE from SCHEMA.t", "t: RENAME TABLE to SCHEMA.n"],
    },
    Case {
        sql: &["ALTER TABLE t RENAME TO n, ADD c INT", "INSERT INTO n VALUES (3, 30, 'z', 1)"],
        rows: &["insert n id=3,a=30,b=z,c=1"],
        gaps: &["n: RENAME TABLE from SCHEMA.t", "t: RENAME TABLE to SCHEMA.n"],
    },
    Case {
        sql: &[
            "CREATE TABLE u (id INT PRIMARY KEY, b VARCHAR(20), a INT)",
            "INSERT INTO u VALUES (3, 'z', 30)",
            "RENAME TABLE t TO x, u TO t, x TO u",
            "INSERT INTO t VALUES (4, 'y', 40)",
            "INSERT INTO u VALUES (5, 50, 'w')",
        ],
        rows: &["insert u id=3,b=z,a=30", "insert t id=4,b=y,a=40", "insert u id=5,a=50,b=w"],
        gaps: &[
            "t: RENAME TABLE to SCHEMA.x",
            "u: RENAME TABLE to SCHEMA.t",
            "x: RENAME TABLE from SCHEMA.t",
        ],
    },
    Case {
        sql: &[
            "DROP TABLE t",
            "CREATE TABLE t (id INT PRIMARY KEY, b INT, a VARCHAR(20))",
            "INSERT INTO t VALUES (3, 30, 'z')",
        ],
        rows: &["insert t id=3,b=30,a=z"],
        gaps: &["t: DROP TABLE: its documents stay as they were"],
    },
    Case {
        sql: &[
            "CREATE TABLE c (PRIMARY KEY (id)) SELECT id, a AS n FROM t",
            "UPDATE c SET n = 0 WHERE id = 1",
        ],
        rows: &["insert c id=1,n=10", "insert c id=2,n=20", "update c id=1,n=0"],
        gaps: &[],
    },
    Case {
        sql: &[
            "CREATE TABLE p (id INT PRIMARY KEY, a INT) PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
            "INSERT INTO p VALUES (1, 1), (11, 1)",
            "ALTER TABLE p ADD PARTITION (PARTITION p2 VALUES LESS THAN (30))",
            "ALTER TABLE p REORGANIZE PARTITION p1, p2 INTO (PARTITION p1 VALUES LESS THAN (30))",
            "INSERT INTO p VALUES (21, 1)",
        ],
        rows: &["insert p id=1,a=1", "insert p id=11,a=1", "insert p id=21,a=1"],
        gaps: &[],
    },
    Case {
        sql: &[
            "ALTER TABLE t PARTITION BY HASH (id) PARTITIONS 2",
            "ALTER TABLE t TRUNCATE PARTITION p0",
            "INSERT INTO t VALUES (3, 30, 'z')",
        ],
        rows: &["insert t id=3,a=30,b=z"],
        gaps: &["t: TRUNCATE PARTITION: no row event says which rows that changed"],
    },
    Case {
        sql: &[
            "CREATE TABLE p (id INT PRIMARY KEY, a INT, b VARCHAR(20)) PARTITION BY HASH (id) PARTITIONS 1",
            "ALTER TABLE p EXCHANGE PARTITION p0 WITH TABLE t",
            "INSERT INTO t VALUES (3, 30, 'z')",
            "ALTER TABLE p PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN (20))",
            "ALTER TABLE p DROP PARTITION p0",
        ],
        rows: &["insert t id=3,a=30,b=z"],
        gaps: &["p: EXCHANGE PARTITION with SCHEMA.t", "t: EXCHANGE PARTITION with SCHEMA.p"],
    },
    Case {
        sql: &[
            "SET binlog_format = STATEMENT",
            "CREATE TABLE c (PRIMARY KEY (id)) SELECT id, a AS n FROM t",
            "SET binlog_format = ROW",
            "INSERT INTO c VALUES (3, 30)",
        ],
        rows: &["insert c id=3,n=30"],
        gaps: &["c: CREATE TABLE … SELECT in statement format"],
    },
    // Tables and objects that have no rows, or none that matter.
    Case {
        sql: &[
            "CREATE VIEW v AS SELECT * FROM t",
            "CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW SET NEW.a = NEW.a + 1",
            "CREATE TEMPORARY TABLE t2 (id INT)",
            "DROP TEMPORARY TABLE t2",
            "ANALYZE TABLE t",
            "OPTIMIZE TABLE t",
            "ALTER TABLE t ENGINE = InnoDB",
            "INSERT INTO t VALUES (3, 30, 'z')",
            "DROP VIEW v",
        ],
        rows: &["insert t id=3,a=31,b=z"],
        gaps: &[],
    },
    Case {
        sql: &[
            "CREATE TABLE k (a INT NULL, b INT NOT NULL, c VARCHAR(5) NOT NULL, UNIQUE KEY (c, b))",
            "INSERT INTO k VALUES (1, 2, 'x')",
            "UPDATE k SET b = 3",
            "ALTER TABLE k MODIFY a INT NOT NULL, DROP INDEX c, ADD UNIQUE (a)",
            "UPDATE k SET b = 4",
        ],
        rows: &["insert k a=1,b=2,c=x", "rekey k a=1,b=3,c=x was x,2", "update k a=1,b=4,c=x"],
        gaps: &["k: its rows are told apart by (a), by (c, b) before"],
    },
];

/// What MariaDB does not have.
pub const MYSQL_CASES: &[Case] = &[
    // MariaDB's row images leave generated columns out.
    Case {
        sql: &[
            "ALTER TABLE t ADD v INT AS (a + 1), ADD s INT AS (a + 2) STORED",
            "UPDATE t SET a = 11 WHERE id = 1",
        ],
        rows: &["update t id=1,a=11,b=x,v=12,s=13"],
        gaps: &["t: ADD COLUMN v with a value for the rows that were there"],
    },
    // Columns that no statement but a table map shows: of an index over an expression, and a key that the server made.
    Case {
        sql: &[
            "ALTER TABLE t ADD INDEX ((a + 1))",
            "SET sql_generate_invisible_primary_key = ON",
            "CREATE TABLE i (a INT)",
            "SET sql_generate_invisible_primary_key = OFF",
            "INSERT INTO i VALUES (5)",
            "INSERT INTO t VALUES (3, 30, 'z')",
        ],
        rows: &["insert i my_row_id=1,a=5", "insert t id=3,a=30,b=z"],
        gaps: &[],
    },
];
