//! Every metric by name, with its help text, and the recorder that Prometheus scrapes.
//!
//! Rooms count with the `metrics` crate's macros under these names: base units, prefix `everrelay_`, few labels.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Names of the metrics that several rooms touch.
pub mod names {
    pub const SOURCE_CONNECTED: &str = "everrelay_source_connected";
    pub const SOURCE_HOST: &str = "everrelay_source_host";
    pub const SOURCE_PURGE_LEFT: &str = "everrelay_source_purge_left_seconds";
    pub const SOURCE_REPLICA_LAG: &str = "everrelay_source_replica_lag_seconds";
    pub const SOURCE_RECONNECTS: &str = "everrelay_source_reconnects_total";
    pub const SOURCE_PAUSED: &str = "everrelay_source_paused";
    pub const SOURCE_TABLES_NEEDING_SNAPSHOT: &str = "everrelay_source_tables_needing_snapshot";
    pub const SOURCE_TABLE_NEEDS_SNAPSHOT: &str = "everrelay_source_table_needs_snapshot";
    pub const SNAPSHOT_ROWS: &str = "everrelay_snapshot_rows";
    pub const SNAPSHOT_ESTIMATED_ROWS: &str = "everrelay_snapshot_estimated_rows";
    pub const SNAPSHOTS_WAITING: &str = "everrelay_snapshots_waiting";
    pub const SOURCE_LAG: &str = "everrelay_source_lag_seconds";
    pub const LOG_CHANGES: &str = "everrelay_log_changes_total";
    pub const LOG_VISIBLE_SEQ: &str = "everrelay_log_visible_seq";
    pub const LOG_BYTES: &str = "everrelay_log_bytes";
    pub const LOG_QUOTA: &str = "everrelay_log_quota_bytes";
    pub const LOG_HELD: &str = "everrelay_log_held_bytes";
    pub const SOURCE_UNDECIDED_XA: &str = "everrelay_source_undecided_xa";
    pub const LOG_SEGMENTS: &str = "everrelay_log_segments";
    pub const LOG_SYNCS: &str = "everrelay_log_syncs_total";
    pub const OUTAGE_LEFT: &str = "everrelay_outage_left_seconds";
    pub const DISK_FREE: &str = "everrelay_disk_free_bytes";
    pub const DISK_RESERVE: &str = "everrelay_disk_reserve_bytes";
    pub const VALUES_NULLED: &str = "everrelay_values_nulled_total";
    pub const SINK_CURSOR_SEQ: &str = "everrelay_sink_cursor_seq";
    pub const SINK_LAG_SECONDS: &str = "everrelay_sink_lag_seconds";
    pub const SINK_LAG_RECORDS: &str = "everrelay_sink_lag_records";
    pub const SINK_ITEMS: &str = "everrelay_sink_items_total";
    pub const SINK_BULKS: &str = "everrelay_sink_bulks_total";
    pub const SINK_BULK_SECONDS: &str = "everrelay_sink_bulk_seconds";
    pub const SINK_IN_FLIGHT_LIMIT: &str = "everrelay_sink_bulks_in_flight_limit";
    pub const SINK_IN_FLIGHT: &str = "everrelay_sink_bulks_in_flight";
    pub const SINK_COLLAPSED: &str = "everrelay_sink_collapsed_total";
    pub const SINK_STOPPED: &str = "everrelay_sink_stopped";
    pub const SINK_NODE_UP: &str = "everrelay_sink_node_up";
    pub const SINK_SWEEPS: &str = "everrelay_sink_sweeps";
    pub const SINK_SWEPT: &str = "everrelay_sink_swept_documents_total";
    pub const REPLAY_GOING: &str = "everrelay_replay_going";
    pub const REPLAYED: &str = "everrelay_replay_documents_total";
    pub const PARKED: &str = "everrelay_parked";
    pub const PARKED_BYTES: &str = "everrelay_parked_bytes";
    pub const READY: &str = "everrelay_ready";
}

/// In gauges of seconds a year stands for every longer time, and for ever.
pub const LONG_SECONDS: u64 = 365 * 86_400;

/// Upper bounds of the bulk latency histogram, seconds.
const BULK_SECONDS: &[f64] =
    &[0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Installs the process's recorder and describes every metric.
///
/// # Errors
/// A recorder is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(names::SINK_BULK_SECONDS.to_owned()), BULK_SECONDS)?
        .install_recorder()?;
    describe();
    Ok(handle)
}

fn describe() {
    use names::*;
    describe_gauge!(SOURCE_CONNECTED, "1 while the binlog stream is connected");
    describe_gauge!(SOURCE_HOST, "1 for the server that is read, 0 for the others of [source] url");
    describe_gauge!(
        SOURCE_PURGE_LEFT,
        Unit::Seconds,
        "For how long the server keeps what was not read yet at least; a year also stands for longer"
    );
    describe_gauge!(
        SOURCE_REPLICA_LAG,
        Unit::Seconds,
        "How far the server that is read is behind the one that it replicates from; 0 where it replicates from none, or that is not known"
    );
    describe_counter!(SOURCE_RECONNECTS, "Connections to the source that ended and were tried again");
    describe_gauge!(
        SOURCE_PAUSED,
        "1 while the source is not read because the log has no room; /readyz says why"
    );
    describe_gauge!(
        SOURCE_TABLES_NEEDING_SNAPSHOT,
        "Tables whose documents are not what their rows are; everrelay status says which and why"
    );
    describe_gauge!(SOURCE_TABLE_NEEDS_SNAPSHOT, "1 while the table's documents are not what its rows are");
    describe_gauge!(SNAPSHOT_ROWS, "Rows that the snapshot of a table has read; 0 when it is over");
    describe_gauge!(SNAPSHOT_ESTIMATED_ROWS, "Rows that it may come to, by the server's estimate");
    describe_gauge!(SNAPSHOTS_WAITING, "Snapshots of tables that have not begun");
    describe_gauge!(SOURCE_LAG, Unit::Seconds, "Age of the last transaction read, when it was read");
    describe_counter!(LOG_CHANGES, "Row changes appended to the log");
    describe_gauge!(LOG_VISIBLE_SEQ, "Sequence number of the last durable commit");
    describe_gauge!(LOG_BYTES, Unit::Bytes, "Size of all log segments");
    describe_gauge!(LOG_QUOTA, Unit::Bytes, "What all log segments may take");
    describe_gauge!(
        LOG_HELD,
        Unit::Bytes,
        "Held in the log by XA transactions that are prepared and not decided"
    );
    describe_gauge!(SOURCE_UNDECIDED_XA, "XA transactions that are prepared and not decided");
    describe_gauge!(LOG_SEGMENTS, "Number of log segments");
    describe_counter!(LOG_SYNCS, "fdatasync calls on the log");
    describe_gauge!(
        OUTAGE_LEFT,
        Unit::Seconds,
        "How long the search engine could be away before the source is paused, at the present rate; a year also stands for longer"
    );
    describe_gauge!(DISK_FREE, Unit::Bytes, "Free on the log's disk, the reserve not counted");
    describe_gauge!(DISK_RESERVE, Unit::Bytes, "Held back on the log's disk; 0 while it is given up");
    describe_counter!(
        VALUES_NULLED,
        "Dates that no calendar knows and numbers that are not finite, indexed as null"
    );
    describe_gauge!(SINK_CURSOR_SEQ, "Sequence number up to which everything is settled");
    describe_gauge!(
        SINK_LAG_SECONDS,
        Unit::Seconds,
        "Age of the oldest commit not yet settled; 0 when all are"
    );
    describe_gauge!(SINK_LAG_RECORDS, "Log records not yet settled");
    describe_counter!(SINK_ITEMS, "Bulk items by disposition");
    describe_counter!(SINK_BULKS, "Bulk requests by outcome");
    describe_histogram!(SINK_BULK_SECONDS, Unit::Seconds, "Time from sending a bulk to its answer");
    describe_gauge!(
        SINK_IN_FLIGHT_LIMIT,
        "Bulk requests that may be under way, by the engine's answers so far"
    );
    describe_gauge!(SINK_IN_FLIGHT, "Bulk requests under way");
    describe_counter!(SINK_COLLAPSED, "Changes that a newer change of the same document took along");
    describe_gauge!(
        SINK_STOPPED,
        "1 for a sink that was stopped for good while others go on; /readyz says why"
    );
    describe_gauge!(
        SINK_NODE_UP,
        "1 for a node of the search engine that answers, 0 for one that is put aside"
    );
    describe_gauge!(
        SINK_SWEEPS,
        "Tables whose older documents are being deleted, after a TRUNCATE or a snapshot"
    );
    describe_counter!(
        SINK_SWEPT,
        "Documents deleted because their rows are gone, after a TRUNCATE or a snapshot of their table"
    );
    describe_gauge!(REPLAY_GOING, "1 while a replay goes on");
    describe_counter!(REPLAYED, "Documents that a replay came to, by what became of them");
    describe_gauge!(
        PARKED,
        "Documents whose newest change the engine refused: the index has an older version of them, or none"
    );
    describe_gauge!(PARKED_BYTES, Unit::Bytes, "What the rows of parked changes take");
    describe_gauge!(READY, "1 while nothing stands in the way of progress");
}
