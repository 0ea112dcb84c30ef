//! The local time zone, found as tzset(3) does: one file of the system's database, or a rule in `TZ`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::tz::TimeZone;
use log::{Level, log_enabled, warn};

use super::escape::{escape, escape_path};

/// Folders of the zone files, unless `TZDIR` names one (tzfile(5)).
const FOLDERS: [&str; 4] = [
    "/usr/share/zoneinfo",
    "/usr/lib/zoneinfo",
    "/usr/share/lib/zoneinfo",
    "/etc/zoneinfo",
];

/// The zone of the machine.
const MACHINE: &str = "/etc/localtime";

/// Most bytes of a zone file: those of the database have less than 4 KiB.
const LARGEST: u64 = 1 << 20;

/// The local time zone. One that can't be had is UTC, and the log says so once.
pub(crate) fn local() -> TimeZone {
    static LOCAL: OnceLock<(TimeZone, Option<String>)> = OnceLock::new();
    static IS_SAID: AtomicBool = AtomicBool::new(false);
    let (zone, fault) = LOCAL.get_or_init(|| match Places::of_system().zone() {
        Ok(zone) => (zone, None),
        Err(fault) => (TimeZone::UTC, Some(fault)),
    });
    // Texts are also checked before there is a log.
    if let Some(fault) = fault
        && log_enabled!(Level::Warn)
        && !IS_SAID.swap(true, Ordering::Relaxed)
    {
        warn!("{fault}; times are in UTC");
    }
    zone.clone()
}

/// The places that tell the local zone.
struct Places {
    /// The variable `TZ`.
    name: Option<OsString>,
    folders: Vec<PathBuf>,
    machine: PathBuf,
}

impl Places {
    fn of_system() -> Self {
        let folders = match env::var_os("TZDIR").filter(|folder| !folder.is_empty()) {
            Some(folder) => vec![folder.into()],
            None => FOLDERS.map(PathBuf::from).to_vec(),
        };
        Self {
            name: env::var_os("TZ"),
            folders,
            machine: MACHINE.into(),
        }
    }

    /// The zone, or the reason why it can't be had.
    fn zone(&self) -> Result<TimeZone, String> {
        let Some(name) = &self.name else {
            return self.zone_of_machine();
        };
        let bytes = name.as_bytes();
        let plain = OsStr::from_bytes(bytes.strip_prefix(b":").unwrap_or(bytes));
        if plain.is_empty() {
            return Ok(TimeZone::UTC);
        }
        // An absolute path replaces the folder.
        let mut files = self.folders.iter().map(|folder| folder.join(plain));
        let found = files.find_map(|file| read(&file));
        found.or_else(|| rule(plain.to_str()?)).ok_or_else(|| {
            let (name, folder) = (escape(bytes), escape_path(&self.folders[0]));
            format!("TZ={name} is neither a time zone in {folder} nor a rule such as CET-1")
        })
    }

    /// A machine without a zone has UTC.
    fn zone_of_machine(&self) -> Result<TimeZone, String> {
        if fs::symlink_metadata(&self.machine).is_err() {
            return Ok(TimeZone::UTC);
        }
        let fault = || format!("{} has no time zone", escape_path(&self.machine));
        read(&self.machine).ok_or_else(fault)
    }
}

/// The zone in a file, if that is a zone file.
fn read(file: &Path) -> Option<TimeZone> {
    let found = fs::metadata(file).ok()?;
    if !found.is_file() || found.len() > LARGEST {
        return None;
    }
    let data = fs::read(file).ok()?;
    TimeZone::tzif(&file.to_string_lossy(), &data).ok()
}

/// The zone of a rule (POSIX), or of a name that needs no file.
fn rule(text: &str) -> Option<TimeZone> {
    match text {
        "UTC" | "GMT" | "Etc/UTC" => Some(TimeZone::UTC),
        _ => TimeZone::posix(text).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    /// A zone file without transitions, whose rule is 8 hours ahead (RFC 8536).
    fn zone_file() -> Vec<u8> {
        let header = [&b"TZif2"[..], &[0; 15], &[0; 16]].concat();
        let sizes = [1_u32, 4].map(u32::to_be_bytes).concat();
        let kind = [&28_800_i32.to_be_bytes()[..], &[0; 2], b"CST\0"].concat();
        let block = [header, sizes, kind].concat();
        [&block[..], &block, b"\nCST-8\n"].concat()
    }

    /// The offset in a folder with the zone Asia/Shanghai.
    fn offset(name: Option<&[u8]>, machine: &str) -> Result<i32, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("Asia")).unwrap();
        fs::write(folder.path().join("Asia/Shanghai"), zone_file()).unwrap();
        fs::write(folder.path().join("text"), "no zone").unwrap();
        std::os::unix::fs::symlink("nothing", folder.path().join("dangling")).unwrap();
        let places = Places {
            name: name.map(|name| OsStr::from_bytes(name).to_owned()),
            folders: vec!["/nowhere".into(), folder.path().into()],
            machine: folder.path().join(machine),
        };
        let zone = places.zone()?;
        Ok(zone.to_offset(Timestamp::UNIX_EPOCH).seconds() / 60)
    }

    /// Names of zones were silently UTC.
    #[test]
    fn name_rule_or_file_sets_the_zone() {
        for (name, minutes) in [
            (&b"Asia/Shanghai"[..], 480),
            (b":Asia/Shanghai", 480),
            (b"CST-8", 480),
            (b"<+0530>-5:30", 330),
            (b"", 0),
            (b"UTC", 0),
        ] {
            assert_eq!(offset(Some(name), "text"), Ok(minutes), "{name:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("zone");
        fs::write(&path, zone_file()).unwrap();
        assert_eq!(offset(Some(path.as_os_str().as_bytes()), ""), Ok(480));
    }

    #[test]
    fn machine_has_its_zone_or_utc() {
        assert_eq!(offset(None, "Asia/Shanghai"), Ok(480));
        assert_eq!(offset(None, "absent"), Ok(0));
        for machine in ["text", "dangling", "Asia"] {
            let fault = offset(None, machine).unwrap_err();
            assert!(fault.ends_with(&format!("{machine} has no time zone")));
        }
    }

    #[test]
    fn zone_that_cannot_be_had_is_named() {
        for (name, shown) in [
            (&b"Asia/Nowhere"[..], "Asia/Nowhere"),
            (b"text", "text"),
            (b"Asia", "Asia"),
            (b"/dev/zero", "/dev/zero"),
            (b"\xff\n", "\\xff\\n"),
        ] {
            let fault = offset(Some(name), "Asia/Shanghai").unwrap_err();
            let start = format!("TZ={shown} is neither a time zone in /nowhere nor ");
            assert!(fault.starts_with(&start), "{fault}");
        }
    }
}
