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

/// Watch the project's runs in a browser: curves compared, samples, recipes side by side, the machine. Shows
/// an address to open; Ctrl-C ends it.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Port to listen on; 0: any free one [default: 8427, or a free one where that is taken]
    #[arg(long, value_name = "N", env = "TEXT2LLM_PORT", hide_env = true)]
    pub port: Option<u16>,
    /// Address to listen on. Any but a loopback one lets other machines in that have the token; nothing is
    /// encrypted
    #[arg(long, value_name = "ADDRESS", env = "TEXT2LLM_HOST", hide_env = true, default_value_t = Ipv4Addr::LOCALHOST.into())]
    pub host: IpAddr,
}

/// Serves until it is ended.
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
            "Open this address in a browser: it shows the runs of {}. Whoever has it can read them. Ctrl-C ends it.",
            project.root().display()
        ));
        if address.ip().is_loopback() {
            console.prose(&format!(
                "From another machine: ssh -L {port}:{address} HERE, then open the same address there.",
                port = address.port()
            ));
        }
    } else {
        let fields = json!({ "url": url, "address": address, "project": project.root() });
        console.result("dashboard", &fields)?;
    }
    if !address.ip().is_loopback() {
        console.warning(&format!(
            "{address} can be reached from other machines, and what goes over the network can be read on its way. In their browsers open it by \
             this machine's IP address. `ssh -L` to a dashboard without --host is safer"
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
