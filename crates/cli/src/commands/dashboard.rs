//! `text2llm dashboard`: the runs in a browser, live.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::Args;
use pipeline::project::Project;
use serde_json::{Value, json};
use serve::ErrorKind;
use serve::dashboard::{Dashboard, Shown};

use super::status::Standing;
use crate::arguments::GlobalArguments;
use crate::failure::Outcome;
use crate::output::Console;
use crate::select;

const USUAL_PORT: u16 = 8427;

/// Monitor runs in a browser: compare curves, samples and recipes
///
/// Also shows the machine's load. Prints a URL to open; press Ctrl-C to stop.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Port to listen on; 0 picks a free one [default: 8427, or a free one if 8427 is in use]
    #[arg(long, value_name = "N", env = "TEXT2LLM_PORT", hide_env = true)]
    pub port: Option<u16>,
    /// IP address to listen on. With an address other than loopback, any machine that has the token can
    /// connect. Traffic is not encrypted
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "TEXT2LLM_HOST",
        hide_env = true,
        default_value_t = Ipv4Addr::LOCALHOST.into()
    )]
    pub host: IpAddr,
}

/// Serves the dashboard until Ctrl-C or SIGTERM.
pub fn run(global: &GlobalArguments, arguments: Arguments, console: &mut Console) -> Outcome {
    let project = select::existing_project(global)?;
    let bind = |port| Dashboard::bind(SocketAddr::new(arguments.host, port), shown(&project));
    let dashboard = match bind(arguments.port.unwrap_or(USUAL_PORT)) {
        Err(error) if error.kind() == ErrorKind::AddressInUse && arguments.port.is_none() => bind(0),
        bound => bound,
    }?;
    let (url, address) = (dashboard.url(), dashboard.address());
    if console.is_human() {
        console.data(&url)?;
        console.prose(&format!(
            "Dashboard of {}. Open this URL in a browser; anyone who has it can read the runs. Press Ctrl-C \
             to stop.",
            project.root().display()
        ));
        if address.ip().is_loopback() {
            console.prose(&format!(
                "From another machine: run `ssh -L {port}:{address} THIS_MACHINE`, then open the same URL \
                 there.",
                port = address.port()
            ));
        }
    } else {
        let fields = json!({ "url": url, "address": address, "project": project.root() });
        console.result("dashboard", &fields)?;
    }
    if !address.ip().is_loopback() {
        console.warning(&format!(
            "{address} can be reached from other machines, and the traffic is not encrypted. Open it there \
             by this machine's IP address. `ssh -L` to a dashboard without --host is safer"
        ));
    }
    match dashboard.serve()? {}
}

fn shown(project: &Project) -> Shown {
    let of = project.clone();
    let standing =
        move |run: &runs::run::RunDir| -> Option<Value> { Standing::of(&of, run).ok()?.json().ok() };
    Shown {
        project: project.root().display().to_string(),
        runs: project.runs(),
        standing: Box::new(standing),
    }
}
