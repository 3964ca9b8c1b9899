//! `pathpulse events`: past and new events of the watched paths.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::args::{Format, FormatOption, SocketOption};
use super::client::Client;
use super::{Failure, output};
use crate::api::{EventDocument, LostDocument};

/// Shows the events of the watched paths
///
/// The daemon keeps the last 1,000 events. With --format json each event is one document on one
/// line.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 shown, 1 no daemon, or it does not answer, 3 wrong usage.\n\n\
    Examples:\n  pathpulse events\n  pathpulse events -n 20 --since 2h\n  \
    pathpulse events --follow --format json"
)]
pub(crate) struct Args {
    /// Show new events too, until the daemon stops
    #[arg(long, short)]
    follow: bool,
    /// Show the last N events only
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Show events since this time: a time like 2026-11-22T14:00:00Z, or an age like 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    #[command(flatten)]
    socket: SocketOption,
    #[command(flatten)]
    output: FormatOption,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let mut resource = format!("/v1/events?follow={}", args.follow);
    if let Some(last) = args.last {
        resource += &format!("&last={last}");
    }
    if let Some(since) = args.since {
        resource += &format!("&since={since}");
    }
    let mut client = Client::connect(args.socket.file())?;
    client.stream(&resource, |name, data| match name {
        "lost" => {
            let lost = serde_json::from_str(data).map_or(0, |document: LostDocument| document.lost);
            output::print_error(&format!(
                "{lost} events are missing here; `pathpulse status` shows the current states"
            ));
            true
        }
        _ => output::print(&match args.output.format {
            Format::Json => format!("{data}\n"),
            Format::Table => line(data),
        }),
    })?;
    Ok(0)
}

/// A time, or an age.
fn moment(text: &str) -> Result<Timestamp, String> {
    let ago = |span: Duration| SystemTime::now().checked_sub(span);
    let span = humantime::parse_duration(text).ok().and_then(ago);
    match span {
        Some(time) => Timestamp::try_from(time).map_err(|error| error.to_string()),
        None => text.parse().map_err(|_| {
            "expected a time like 2026-11-22T14:00:00Z, or an age like 2h or 30m".to_owned()
        }),
    }
}

fn line(data: &str) -> String {
    let Ok(event) = serde_json::from_str::<EventDocument>(data) else {
        return format!("{}\n", output::printable(data));
    };
    let EventDocument {
        time,
        path,
        from,
        to,
        cause,
        detail,
        ..
    } = event;
    let change = if from == to {
        format!("still {to}")
    } else {
        format!("{from} -> {to}")
    };
    let mut text = format!("{time}  {path}  {change}  {cause}");
    if !detail.is_empty() {
        text = format!("{text}: {detail}");
    }
    output::printable(&text) + "\n"
}
