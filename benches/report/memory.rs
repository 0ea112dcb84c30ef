//! Costs of idle clients, beside criterion's results: counted, not timed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::results;
use super::table::{PEERS, markdown};

/// Bytes for each client of one service of one program.
#[derive(Clone, Debug)]
pub(crate) struct Cost {
    pub(crate) service: String,
    pub(crate) program: String,
    pub(crate) bytes: u64,
}

/// The costs, and the number of clients they were counted with.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) clients: usize,
    pub(crate) costs: Vec<Cost>,
}

fn file(directory: &Path) -> PathBuf {
    directory.join("memory.json")
}

impl Counted {
    pub(crate) fn read(directory: &Path) -> Option<Self> {
        let stored = results::json(&file(directory))?;
        let costs = stored["costs"].as_array()?.iter().map(|cost| {
            Some(Cost {
                service: cost["service"].as_str()?.to_string(),
                program: cost["program"].as_str()?.to_string(),
                bytes: cost["bytes"].as_u64()?,
            })
        });
        Some(Self {
            clients: usize::try_from(stored["clients"].as_u64()?).ok()?,
            costs: costs.collect::<Option<_>>()?,
        })
    }

    pub(crate) fn write(&self, directory: &Path) -> io::Result<()> {
        let cost = |cost: &Cost| json!({"service": cost.service, "program": cost.program, "bytes": cost.bytes});
        let costs: Vec<Value> = self.costs.iter().map(cost).collect();
        let stored = json!({"clients": self.clients, "costs": costs});
        fs::create_dir_all(directory)?;
        fs::write(file(directory), stored.to_string())
    }

    /// A row a service: ours in bytes, and how many times that each peer takes.
    pub(crate) fn table(&self) -> String {
        let header = ["bytes per idle client", "resound"].map(String::from);
        let header = header.into_iter().chain(PEERS.map(String::from));
        let mut rows: Vec<Vec<String>> = vec![header.collect()];
        for ours in self.costs.iter().filter(|cost| cost.program == "resound") {
            let peers = PEERS.map(|peer| {
                let same = |cost: &&Cost| cost.service == ours.service && cost.program == peer;
                let peer = self.costs.iter().find(same);
                peer.map_or_else(|| "–".to_string(), |peer| times(peer.bytes, ours.bytes))
            });
            let mut row = vec![ours.service.clone(), ours.bytes.to_string()];
            row.extend(peers);
            rows.push(row);
        }
        markdown(&rows)
    }
}

fn times(bytes: u64, ours: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "three digits of it are shown")]
    let ratio = bytes as f64 / ours.max(1) as f64;
    format!("{bytes} (× {ratio:.1})")
}
