//! Properties of this machine: memory, disk, CPU.
//!
//! On Linux, /proc and control groups are read directly, because a container's limit is what kills a run;
//! other systems use the `sysinfo` crate. Unknown values are `None`.

use std::path::Path;

use crate::fs::{Fs, RealFs};

/// Number of threads that this process can run at once (with control groups and affinity).
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Free space for this user on the disk of `path`, which may not exist yet.
pub fn free_disk_bytes(path: &Path) -> Option<u64> {
    let mut at = std::path::absolute(path).ok()?;
    while !at.exists() {
        at = at.parent()?.to_owned();
    }
    RealFs.free_space_bytes(&at).ok()
}

/// Resident memory of this process.
pub fn rss_bytes() -> Option<u64> {
    platform::rss_bytes()
}

/// Peak resident memory of this process.
pub fn peak_rss_bytes() -> Option<u64> {
    platform::peak_rss_bytes()
}

/// File pages in the resident memory: the program itself, mapped shards. The system reclaims them first.
/// `None` if unknown.
pub fn resident_file_bytes() -> Option<u64> {
    platform::resident_file_bytes()
}

/// Memory available to this process without swapping or being killed.
pub fn available_memory_bytes() -> Option<u64> {
    platform::available_memory_bytes()
}

/// Number of processes of this control group killed for lack of memory so far; `None` if unknown.
pub fn out_of_memory_kills() -> Option<u64> {
    platform::out_of_memory_kills()
}

/// Load average of the last minute, of all programs on this machine.
pub fn load_average() -> Option<f64> {
    platform::load_average()
}

/// Name of the CPU.
pub fn cpu_model() -> String {
    platform::cpu_model().unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs::read_to_string;
    use std::path::{Path, PathBuf};

    pub fn rss_bytes() -> Option<u64> {
        kib_field(&read_to_string("/proc/self/status").ok()?, "VmRSS:")
    }

    pub fn peak_rss_bytes() -> Option<u64> {
        kib_field(&read_to_string("/proc/self/status").ok()?, "VmHWM:")
    }

    pub fn resident_file_bytes() -> Option<u64> {
        kib_field(&read_to_string("/proc/self/status").ok()?, "RssFile:")
    }

    pub fn available_memory_bytes() -> Option<u64> {
        let host = kib_field(&read_to_string("/proc/meminfo").ok()?, "MemAvailable:");
        let groups = read_to_string("/proc/self/cgroup").unwrap_or_default();
        let group = group_left_bytes(Path::new("/sys/fs/cgroup"), &groups);
        host.into_iter().chain(group).chain(address_space_left_bytes()).min()
    }

    /// Address space left by RLIMIT_AS, if set.
    fn address_space_left_bytes() -> Option<u64> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::As).current?;
        let used = kib_field(&read_to_string("/proc/self/status").ok()?, "VmSize:")?;
        Some(limit.saturating_sub(used))
    }

    pub fn out_of_memory_kills() -> Option<u64> {
        group_kills(Path::new("/sys/fs/cgroup"), &read_to_string("/proc/self/cgroup").ok()?)
    }

    /// From version 2 (`memory.events`) or version 1 (`memory.oom_control`).
    pub(super) fn group_kills(root: &Path, groups: &str) -> Option<u64> {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let (controllers, group) = (fields.next()?, fields.next()?.trim_start_matches('/'));
            let file = if controllers.is_empty() {
                root.join(group).join("memory.events")
            } else if controllers.split(',').any(|name| name == "memory") {
                root.join("memory").join(group).join("memory.oom_control")
            } else {
                return None;
            };
            let text = read_to_string(file).ok()?;
            text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
        })
    }

    pub fn load_average() -> Option<f64> {
        read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
    }

    pub fn cpu_model() -> Option<String> {
        let text = read_to_string("/proc/cpuinfo").ok()?;
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    }

    fn kib_field(text: &str, name: &str) -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?.checked_mul(1024)
    }

    /// The smallest headroom among this process's group and its parents; version 2, then version 1.
    pub(super) fn group_left_bytes(root: &Path, groups: &str) -> Option<u64> {
        let mut least = None;
        for line in groups.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
            let (base, limit, used, cache) = if controllers.is_empty() {
                (root.to_owned(), "memory.max", "memory.current", "inactive_file ")
            } else if controllers.split(',').any(|name| name == "memory") {
                (
                    root.join("memory"),
                    "memory.limit_in_bytes",
                    "memory.usage_in_bytes",
                    "total_inactive_file ",
                )
            } else {
                continue;
            };
            let number = |folder: &Path, name: &str| -> Option<u64> {
                read_to_string(folder.join(name)).ok()?.trim().parse().ok()
            };
            let mut at: Option<PathBuf> = Some(base.join(group.trim_start_matches('/')));
            while let Some(folder) = at {
                // "max" does not parse: no limit at this level.
                if let (Some(limit), Some(used)) = (number(&folder, limit), number(&folder, used)) {
                    // Inactive file cache is reclaimed before anything is killed.
                    let reclaimable = read_to_string(folder.join("memory.stat"))
                        .ok()
                        .and_then(|text| {
                            text.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse().ok())
                        })
                        .unwrap_or(0);
                    let left = limit.saturating_sub(used.saturating_sub(reclaimable));
                    least = Some(least.map_or(left, |least: u64| least.min(left)));
                }
                at = (folder != base).then(|| folder.parent().map(Path::to_owned)).flatten();
            }
        }
        least
    }
}

#[cfg(not(target_os = "linux"))]
mod platform {
    use std::sync::atomic::{AtomicU64, Ordering};
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate, System};

    static PEAK: AtomicU64 = AtomicU64::new(0);

    pub fn rss_bytes() -> Option<u64> {
        let pid = sysinfo::get_current_pid().ok()?;
        let mut system = System::new().ok()?;
        let wanted = ProcessRefreshKind::nothing().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, wanted);
        let bytes = system.process(pid)?.memory();
        PEAK.fetch_max(bytes, Ordering::Relaxed);
        Some(bytes)
    }

    /// The maximum of this module's own readings: the crate provides no true peak.
    pub fn peak_rss_bytes() -> Option<u64> {
        rss_bytes()?;
        Some(PEAK.load(Ordering::Relaxed))
    }

    pub fn resident_file_bytes() -> Option<u64> {
        None
    }

    pub fn available_memory_bytes() -> Option<u64> {
        let mut system = System::new().ok()?;
        system.refresh_memory();
        Some(system.available_memory())
    }

    pub fn out_of_memory_kills() -> Option<u64> {
        None
    }

    /// Windows has no such value, and the crate returns 0 there.
    pub fn load_average() -> Option<f64> {
        (!cfg!(windows)).then(|| System::load_average().one)
    }

    pub fn cpu_model() -> Option<String> {
        let mut system = System::new().ok()?;
        system.refresh_cpu_all();
        let brand = system.cpus().first()?.brand().trim().to_owned();
        (!brand.is_empty()).then_some(brand)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_answers() {
        let rss = rss_bytes().unwrap();
        assert!(rss > 1 << 20 && peak_rss_bytes().unwrap() >= rss / 2);
        assert!(available_memory_bytes().unwrap() > 1 << 24);
        assert!(free_disk_bytes(Path::new("not/there/yet")).unwrap() > 0);
        assert!(load_average().is_none_or(|load| load >= 0.0));
        assert!(available_threads() > 0 && !cpu_model().is_empty());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a/b/memory.max", "max\n");
        write("a/b/memory.current", "100\n");
        write("a/memory.max", "1000\n");
        write("a/memory.current", "700\n");
        write("a/memory.stat", "anon 1\ninactive_file 200\n");
        assert_eq!(platform::group_left_bytes(root.path(), "0::/a/b\n"), Some(500));
        assert_eq!(platform::group_left_bytes(root.path(), "0::/\n"), None);
        write("memory/c/memory.limit_in_bytes", "50\n");
        write("memory/c/memory.usage_in_bytes", "20\n");
        assert_eq!(platform::group_left_bytes(root.path(), "4:cpu,memory:/c\n"), Some(30));
        assert_eq!(platform::group_kills(root.path(), "0::/a/b\n"), None);
        write("a/b/memory.events", "oom 2\noom_kill 3\noom_group_kill 0\n");
        assert_eq!(platform::group_kills(root.path(), "0::/a/b\n"), Some(3));
        write("memory/c/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
        assert_eq!(platform::group_kills(root.path(), "4:cpu,memory:/c\n0::/x\n"), Some(1));
    }
}
