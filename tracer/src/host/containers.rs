//! Finds a cgroup's container by the names that container runtimes give to cgroups, and its pod by
//! the names that a Kubernetes node gives to log directories.

use std::{fs, path::Path};

use crate::trace::names::Container;

/// The directory in which a node keeps the logs of its pods, in subdirectories
/// `namespace_name_uid`.
const POD_LOGS: &str = "/var/log/pods";

/// Prefixes that runtimes put before a container's id in the names of cgroups managed by systemd.
const PREFIXES: [&str; 6] =
    ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-", "lxc.payload."];

/// The container that a cgroup belongs to, and the name of its pod if this node has a log directory
/// for it. `None` if the path names no container.
pub(super) fn of(path: &str) -> Option<Container> {
    let (id, pod_uid) = parse(path)?;
    let pod = pod_uid.map(|uid| pod_name(Path::new(POD_LOGS), &uid).unwrap_or(uid));
    Some(Container { id, pod })
}

/// The container's id and its pod's uid, from the innermost path component that contains one.
fn parse(path: &str) -> Option<(String, Option<String>)> {
    let parts: Vec<_> = path.split('/').collect();
    let (at, id) = parts.iter().enumerate().rev().find_map(|(at, part)| {
        let parent = at.checked_sub(1).map(|parent| parts[parent]);
        Some((at, container_id(part, parent)?))
    })?;
    let pod = parts[..at].iter().rev().find_map(|part| pod_uid(part));
    Some((id, pod))
}

fn container_id(part: &str, parent: Option<&str>) -> Option<String> {
    let unit = part.strip_suffix(".scope").or(part.strip_suffix(".service")).unwrap_or(part);
    if let Some(name) = unit.strip_prefix("lxc.payload.") {
        return Some(name.to_owned());
    }
    // systemd-nspawn and machined use this form.
    if part.ends_with(".scope")
        && let Some(name) = unit.strip_prefix("machine-")
    {
        return Some(unescape(name));
    }
    if let Some(name) = unit.strip_prefix("systemd-nspawn@") {
        return Some(unescape(name));
    }
    let id = PREFIXES.iter().find_map(|prefix| unit.strip_prefix(prefix)).unwrap_or(unit);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // An ECS task id has its own form; the containers of the task are below it.
    let is_ecs = |id: &str| {
        id.split_once('-').is_some_and(|(task, number)| {
            task.len() == 32 && is_hex(task) && number.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    let is_lxc = parent == Some("lxc");
    (id.len() == 64 && is_hex(id) || is_ecs(id) || is_lxc).then(|| id.to_owned())
}

/// Extracts the uid from `pod8d3e…` or `kubepods-burstable-pod8d3e_….slice`.
fn pod_uid(part: &str) -> Option<String> {
    let unit = part.strip_suffix(".slice").unwrap_or(part);
    let uid = match unit.strip_prefix("pod") {
        Some(uid) => uid,
        None if unit.starts_with("kubepods") => unit.rsplit_once("-pod")?.1,
        None => return None,
    };
    let is_uid = uid.len() >= 32
        && uid.bytes().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'));
    is_uid.then(|| uid.replace('_', "-"))
}

/// Searches the log directories for the pod with this uid and returns `namespace/name`.
fn pod_name(logs: &Path, uid: &str) -> Option<String> {
    fs::read_dir(logs).ok()?.flatten().find_map(|directory| {
        let name = directory.file_name().into_string().ok()?;
        let mut parts = name.splitn(3, '_');
        let (namespace, pod, its_uid) = (parts.next()?, parts.next()?, parts.next()?);
        (its_uid == uid).then(|| format!("{namespace}/{pod}"))
    })
}

/// Undoes systemd's escaping: unit names contain `-` and other characters as `\x2d`.
fn unescape(unit: &str) -> String {
    let mut plain = String::new();
    let mut rest = unit;
    while let Some(at) = rest.find("\\x") {
        plain.push_str(&rest[..at]);
        match rest.get(at + 2..at + 4).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                plain.push(byte.into());
                rest = &rest[at + 4..];
            }
            _ => {
                plain.push_str("\\x");
                rest = &rest[at + 2..];
            }
        }
    }
    plain + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const UID: &str = "8d3e1f9a-4c59-4b0e-9f6d-0f3f5b8f1a2b";

    #[test]
    fn containers_are_recognized_by_their_cgroup_names() {
        let found = |path: &str| parse(&path.replace("ID", ID)).map(|(id, _)| id);
        for path in [
            "system.slice/docker-ID.scope",
            "docker/ID",
            "machine.slice/libpod-ID.scope",
            "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope/container",
            "kubepods/besteffort/pod8d3e1f9a-4c59-4b0e-9f6d-0f3f5b8f1a2b/ID",
            "system.slice/docker-ID.scope/init.scope",
        ] {
            assert_eq!(found(path).as_deref(), Some(ID), "{path}");
        }
        let task = "0123456789abcdef0123456789abcdef-1234567890";
        assert_eq!(found(&format!("ecs/task/{task}")).as_deref(), Some(task));
        assert_eq!(found("lxc.payload.web/system.slice").as_deref(), Some("web"));
        assert_eq!(found("lxc/web").as_deref(), Some("web"));
        assert_eq!(found("machine.slice/machine-my\\x2dweb.scope").as_deref(), Some("my-web"));
        for path in ["", "system.slice/nginx.service", "user.slice", "libpod-conmon-ID.scope"] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn both_forms_of_a_pods_uid_are_parsed() {
        let uid = |path: &str| parse(&path.replace("ID", ID)).and_then(|(_, pod)| pod);
        let by_systemd = format!(
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice/cri-containerd-ID.scope",
            UID.replace('-', "_")
        );
        assert_eq!(uid(&by_systemd).as_deref(), Some(UID));
        assert_eq!(uid(&format!("kubepods/pod{UID}/ID")).as_deref(), Some(UID));
        assert_eq!(uid("system.slice/docker-ID.scope"), None);
    }

    #[test]
    fn a_pods_name_is_that_of_its_log_directory() {
        let logs = tempfile::tempdir().unwrap();
        for name in [&format!("shop_web-0_{UID}"), "other_pod_0", "nonsense"] {
            fs::create_dir(logs.path().join(name)).unwrap();
        }
        assert_eq!(pod_name(logs.path(), UID).as_deref(), Some("shop/web-0"));
        assert_eq!(pod_name(logs.path(), "1"), None);
        assert_eq!(pod_name(Path::new("/no/such/directory"), UID), None);
    }
}
