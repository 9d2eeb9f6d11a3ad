//! Which sink a command is about, and the cursors in a state folder.

use anyhow::anyhow;

use super::Failure;
use crate::admin::sinks::SinkStatus;
use crate::config::{Settings, SinkSettings};
use crate::lifecycle::Exit;
use crate::settled::{Cursor, CursorStore, Settled, SettledError};

/// The sink that is meant.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SinkArgument {
    /// Which sink, where the configuration has several.
    #[arg(long, value_name = "NAME")]
    pub sink: Option<String>,
}

impl SinkArgument {
    /// # Errors
    /// There is no such sink, or there are several and none is named.
    pub fn of<'s>(&self, settings: &'s Settings) -> Result<&'s SinkSettings, Failure> {
        let names = settings.sinks.iter().map(|sink| sink.name.as_str()).collect::<Vec<_>>().join(", ");
        let found = match (&self.sink, settings.sinks.as_slice()) {
            (Some(name), sinks) => sinks
                .iter()
                .find(|sink| sink.name == *name)
                .ok_or_else(|| anyhow!("there is no sink {name:?} in the configuration; there is {names}")),
            (None, [sink]) => Ok(sink),
            (None, _) => Err(anyhow!("there are several sinks: say which by --sink, of {names}")),
        };
        found.map_err(|error| Failure::new(Exit::Usage, error))
    }
}

/// Names of the configuration's sinks, and of those that have a cursor in the folder and are not among them.
///
/// # Errors
/// The cursors cannot be read.
pub(super) fn names(
    settings: &Settings,
    settled: &Settled,
) -> Result<(Vec<String>, Vec<String>), SettledError> {
    let configured: Vec<String> = settings.sinks.iter().map(|sink| sink.name.clone()).collect();
    let others = settled.cursors()?.into_iter().filter(|name| !configured.contains(name)).collect();
    Ok((configured, others))
}

/// How the state folder of a stopped relay says that its sinks stand.
///
/// # Errors
/// It cannot be read.
pub(super) fn left_behind(settings: &Settings) -> Result<Vec<SinkStatus>, SettledError> {
    // Opening makes the folder where it is missing: a look must not.
    let settled =
        settings.settled_dir().exists().then(|| Settled::open(&settings.settled_dir())).transpose()?;
    let Some(settled) = settled else {
        let status = |sink: &SinkSettings| SinkStatus::new(&sink.name, true, &Cursor::default(), &[]);
        return Ok(settings.sinks.iter().map(status).collect());
    };
    let (configured, others) = names(settings, &settled)?;
    let known = settled.cursors()?;
    let of = |names: Vec<String>, configured: bool| {
        // Nothing is made for one that has no cursor.
        let status = |name: &String| match known.contains(name) {
            true => load(name, configured, &settled.cursor(name)?),
            false => Ok(SinkStatus::new(name, configured, &Cursor::default(), &[])),
        };
        names.iter().map(status).collect::<Result<Vec<_>, _>>()
    };
    Ok([of(configured, true)?, of(others, false)?].concat())
}

/// How one stands.
///
/// # Errors
/// Its cursor cannot be read.
pub(super) fn load(
    name: &str,
    configured: bool,
    store: &impl CursorStore,
) -> Result<SinkStatus, SettledError> {
    Ok(SinkStatus::new(name, configured, &store.load()?.unwrap_or_default(), &store.parked()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_its_sink_only_where_there_are_several() {
        let source = "[source]\nurl = \"mysql://relay@localhost\"\ntables = [\"shop.*\"]\n";
        let sink = |name: &str, port: u16| format!("[sink.{name}]\nurl = \"http://localhost:{port}\"\n");
        let one = crate::config::parse(&format!("{source}{}", sink("a", 1)), "f").unwrap();
        let two = crate::config::parse(&format!("{source}{}{}", sink("a", 1), sink("b", 2)), "f").unwrap();
        let named = |name: Option<&str>, settings: &Settings| {
            let argument = SinkArgument { sink: name.map(str::to_owned) };
            argument.of(settings).map(|sink| sink.name.clone()).map_err(|failure| failure.error.to_string())
        };
        assert_eq!(named(None, &one).unwrap(), "a");
        assert_eq!(named(Some("b"), &two).unwrap(), "b");
        assert!(named(None, &two).unwrap_err().contains("say which by --sink, of a, b"));
        assert!(
            named(Some("c"), &two).unwrap_err().contains("no sink \"c\" in the configuration; there is a, b")
        );
    }
}
