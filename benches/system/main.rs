//! Measures the whole system: the real binary, asked by a load generator in a process of its own,
//! next to the limits of the machine, which are measured in the same run.
//!
//! `cargo bench --bench system` prints the table of docs/performance.md. `--calls` measures each
//! call over logs of three sizes instead. `--quick` looks only if all of it works; its figures say
//! nothing.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot go on stops"
)]

mod calls;
mod chart;
mod history;
#[path = "../kit/mod.rs"]
mod kit;
mod limits;
mod load;
mod pushed;
mod report;
mod scim;
mod server;
mod table;

use std::path::PathBuf;

use clap::Parser;

/// Measures the real server next to the limits of the machine.
#[derive(Parser)]
struct Options {
    /// Look in half a minute if everything works; no figure counts.
    #[arg(long)]
    quick: bool,
    /// Write JSON.
    #[arg(long)]
    json: bool,
    /// Measure each call over logs of three sizes.
    #[arg(long)]
    calls: bool,
    /// The numbers of records: of the large log, or with `--calls` of each log.
    #[arg(long, value_delimiter = ',')]
    records: Vec<u64>,
    /// Keep the logs of `--calls` in this folder, and use those that are there.
    #[arg(long)]
    logs: Option<PathBuf>,
    /// Measure these servers with `--calls` in turns, instead of the one of this build.
    #[arg(long)]
    binary: Vec<PathBuf>,
    /// Draw the growth of each call into this file, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Measure only calls whose name has this in it; without `--calls`, only the parts of the table
    /// whose name has it: `webhooks and reads`, `long log`, `scim`.
    #[arg(long, default_value = "")]
    only: String,
    /// Work as the load generator.
    #[arg(long, hide = true)]
    as_load: bool,
    /// Work as the server that does nothing.
    #[arg(long, hide = true)]
    as_limits: bool,
    /// Cargo says so.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    if options.as_load {
        load::work();
    } else if options.as_limits {
        limits::serve();
    } else if options.calls {
        calls::measure(&options);
    } else {
        table::measure(&options);
    }
}
