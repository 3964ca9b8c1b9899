//! `pathpulse events`: what happened, and what happens.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::args::{Format, Socket};
use super::client::Client;
use super::{Failure, output};
use crate::daemon::{EventDocument, LostDocument};

/// Shows what happened to the paths that the daemon watches
///
/// The daemon keeps the last 1,000 events.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  pathpulse events\n  pathpulse events -n 20 --since 2h\n  pathpulse events --follow --format json"
)]
pub(crate) struct Args {
    /// Go on with new events as they happen, until the daemon stops
    #[arg(long, short)]
    follow: bool,
    /// Only the last ones of those that are kept
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Only those since then: a time like 2026-11-22T14:00:00Z, or so long ago, like 2h
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    #[command(flatten)]
    socket: Socket,
    /// How to print them; json: one document on each line
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

pub(crate) fn run(args: &Args) -> Result<i32, Failure> {
    let mut resource = format!("/v1/events?follow={}", args.follow);
    if let Some(last) = args.last {
        resource += &format!("&last={last}");
    }
    if let Some(since) = args.since {
        resource += &format!("&since={since}");
    }
    let mut client = Client::connect(&args.socket.file)?;
    client.stream(&resource, |name, data| match name {
        "lost" => {
            let lost = serde_json::from_str(data).map_or(0, |document: LostDocument| document.lost);
            output::complain(&format!(
                "{lost} events are missing here; `pathpulse status` is right"
            ));
            true
        }
        _ => output::print(&match args.format {
            Format::Json => format!("{data}\n"),
            Format::Table => line(data),
        }),
    })?;
    Ok(0)
}

/// A time, or how long ago it was.
fn moment(text: &str) -> Result<Timestamp, String> {
    let ago = |span: Duration| SystemTime::now().checked_sub(span);
    let span = humantime::parse_duration(text).ok().and_then(ago);
    match span {
        Some(time) => Timestamp::try_from(time).map_err(|error| error.to_string()),
        None => text.parse().map_err(|_| {
            "expected a time like 2026-11-22T14:00:00Z, or how long ago, like 2h or 30m".to_owned()
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
