//! Checks what a client of GoFD posts.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
    path::Path,
};

use edge_mirror_gofd::max_task_id;
use edge_mirror_protocol::dispatch::{
    InvalidFileName, MAX_FILES, NameConflict, check_file_name, check_file_names,
};
use thiserror::Error;

/// Destinations of a task; more than the chain of one takes.
const MAX_IPS: usize = 1000;
/// Characters of a text that a refusal repeats.
const MAX_SHOWN: usize = 200;

/// A task as it was posted, with the paths below the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GofdRequest {
    pub(crate) id: String,
    /// As they were posted.
    pub(crate) files: Vec<String>,
    /// In their order, which is that of the chain; without repetitions.
    pub(crate) ips: Vec<String>,
}

/// The reason that nothing becomes of a post.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(crate) enum GofdRefusal {
    /// GoFD's word for it.
    #[error("TASK_EXISTED")]
    Existed,
    #[error("任务已达上限 {0} 个 / there are {0} tasks")]
    Full(usize),
    #[error(
        "id 应为 1 到 {0} 字节，不含控制字符 / id must have 1 to {0} bytes and no control characters"
    )]
    Id(usize),
    #[error(
        "dispatchFiles 应有 1 到 {MAX_FILES} 个文件 / dispatchFiles must name from 1 to {MAX_FILES} files"
    )]
    Files,
    #[error("destIPs 应有 1 到 {MAX_IPS} 个地址 / destIPs must have from 1 to {MAX_IPS} addresses")]
    Ips,
    #[error("destIPs 中的 {0:?} 不是 IP 地址 / {0:?} in destIPs is no IP address")]
    Ip(String),
    #[error(
        "{0} 处没有节点，配置中也没有 agentMgntPort 和 agentDataPort / there is no node at {0}, and the configuration has no agentMgntPort and agentDataPort"
    )]
    Nobody(String),
    #[error(
        "主控服务器启动时没有 --dispatch-root / the main server was started without --dispatch-root"
    )]
    NoRoot,
    #[error("{0:?} 不在 --dispatch-root 之下 / {0:?} is not below --dispatch-root")]
    Outside(String),
    #[error("{0}")]
    Path(String),
    #[error("{name:?}: {cause}")]
    Name { name: String, cause: InvalidFileName },
    #[error("{0}")]
    Conflict(NameConflict),
    #[error(
        "GoFD 的 Agent 会丢弃目录，两个文件都会写成 {0:?} / agents of GoFD drop folders: two files would be written as {0:?}"
    )]
    SameBase(String),
}

impl GofdRequest {
    pub(crate) fn check(
        id: String,
        files: Vec<String>,
        ips: Vec<String>,
        user: &str,
    ) -> Result<Self, GofdRefusal> {
        let longest = max_task_id(user);
        if !(1..=longest).contains(&id.len()) || id.chars().any(char::is_control) {
            return Err(GofdRefusal::Id(longest));
        }
        if !(1..=MAX_FILES).contains(&files.len()) {
            return Err(GofdRefusal::Files);
        }
        if !(1..=MAX_IPS).contains(&ips.len()) {
            return Err(GofdRefusal::Ips);
        }
        let is_host = |ip: &String| {
            ip.parse().is_ok_and(|ip: IpAddr| !ip.is_unspecified() && !ip.is_multicast())
        };
        if let Some(other) = ips.iter().find(|ip| !is_host(ip)) {
            return Err(GofdRefusal::Ip(shown(other)));
        }
        let mut seen = HashSet::new();
        let ips = ips.into_iter().filter(|ip| seen.insert(ip.clone())).collect();
        Ok(Self { id, files, ips })
    }

    /// True if a post means the same task: the order does not matter.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let set = |texts: &[String]| texts.iter().cloned().collect::<BTreeSet<_>>();
        set(&self.ips) == set(&other.ips) && set(&self.files) == set(&other.files)
    }

    /// The paths of the files below the root, which are their names at nodes.
    pub(crate) fn paths(&self, root: &Path) -> Result<Vec<String>, GofdRefusal> {
        let paths = self.files.iter().map(|posted| {
            let path = below_root(root, posted);
            let path = path.ok_or_else(|| GofdRefusal::Outside(shown(posted)))?;
            check_file_name(&path)
                .map_err(|cause| GofdRefusal::Name { name: shown(posted), cause })?;
            Ok(path)
        });
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        check_file_names(paths.iter().map(String::as_str)).map_err(GofdRefusal::Conflict)?;
        Ok(paths)
    }

    /// Makes sure that no two files have one name at agents.
    pub(crate) fn check_base_names(&self) -> Result<(), GofdRefusal> {
        let mut names = HashSet::new();
        let base = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        match self.files.iter().map(|path| base(path)).find(|name| !names.insert(name.clone())) {
            Some(name) => Err(GofdRefusal::SameBase(shown(&name))),
            None => Ok(()),
        }
    }
}

fn shown(text: &str) -> String {
    text.chars().take(MAX_SHOWN).collect()
}

/// The part of an absolute path behind the root; None if it is elsewhere.
pub(crate) fn below_root(root: &Path, posted: &str) -> Option<String> {
    let segments = |path: &str| -> Option<Vec<String>> {
        let path = path.strip_prefix('/')?;
        let segments = path.split('/').filter(|segment| !matches!(*segment, "" | "."));
        let segments: Vec<_> = segments.map(ToOwned::to_owned).collect();
        (!segments.iter().any(|segment| segment == "..")).then_some(segments)
    };
    let (root, posted) = (segments(root.to_str()?)?, segments(posted)?);
    let rest = posted.strip_prefix(&root[..])?;
    (!rest.is_empty()).then(|| rest.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(id: &str, files: &[&str], ips: &[&str]) -> Result<GofdRequest, GofdRefusal> {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        GofdRequest::check(id.to_owned(), own(files), own(ips), "gofd")
    }

    #[test]
    fn only_what_is_below_the_root_is_named() {
        let below = |posted| below_root(Path::new("/srv/files/"), posted);
        assert_eq!(below("/srv/files/a").as_deref(), Some("a"));
        assert_eq!(below("/srv//files/./fw/a").as_deref(), Some("fw/a"));
        for outside in [
            "",
            "a",
            "files/a",
            "/srv/files",
            "/srv/files/",
            "/srv/filesystem/a",
            "/etc/passwd",
            "/srv/files/../a",
            "/srv/files/x/../../a",
            "/../srv/files/a",
            "../srv/files/a",
        ] {
            assert_eq!(below(outside), None, "{outside}");
        }
        assert_eq!(below_root(Path::new("/"), "/a/b").as_deref(), Some("a/b"));
        assert_eq!(below_root(Path::new("relative"), "/a/b"), None);
    }

    #[test]
    fn bad_input_is_refused_before_anything_is_done() {
        let many: Vec<_> = (0..=MAX_IPS).map(|n| format!("10.0.{}.{}", n / 256, n % 256)).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        for (id, files, ips, refusal) in [
            ("", vec!["/a"], vec!["::1"], GofdRefusal::Id(124)),
            ("a\n", vec!["/a"], vec!["::1"], GofdRefusal::Id(124)),
            (&"x".repeat(125), vec!["/a"], vec!["::1"], GofdRefusal::Id(124)),
            ("1", vec![], vec!["::1"], GofdRefusal::Files),
            ("1", vec!["/a"], vec![], GofdRefusal::Ips),
            ("1", vec!["/a"], many, GofdRefusal::Ips),
            ("1", vec!["/a"], vec!["::1", "host"], GofdRefusal::Ip("host".into())),
            ("1", vec!["/a"], vec!["10.0.0.1:80"], GofdRefusal::Ip("10.0.0.1:80".into())),
            ("1", vec!["/a"], vec!["0.0.0.0"], GofdRefusal::Ip("0.0.0.0".into())),
        ] {
            assert_eq!(post(id, &files, &ips), Err(refusal));
        }
        let paths = |files: &[&str]| post("1", files, &["::1"]).unwrap().paths(Path::new("/srv"));
        assert_eq!(paths(&["/srv/a", "/srv/b/c"]), Ok(vec!["a".into(), "b/c".into()]));
        assert!(matches!(paths(&["/srv/a", "/etc/x"]), Err(GofdRefusal::Outside(_))));
        assert!(matches!(paths(&["/srv/.ssh/id"]), Err(GofdRefusal::Name { .. })));
        assert!(matches!(paths(&["/srv/a", "/srv/A"]), Err(GofdRefusal::Conflict(_))));
    }

    #[test]
    fn the_order_of_files_and_addresses_does_not_matter() {
        let one = post("1", &["/a", "/b"], &["::1", "10.0.0.1"]).unwrap();
        let two = post("1", &["/b", "/a"], &["10.0.0.1", "::1", "::1"]).unwrap();
        assert!(one.is_same(&two));
        for other in [post("1", &["/a"], &["::1", "10.0.0.1"]), post("1", &["/a", "/b"], &["::1"])]
        {
            assert!(!one.is_same(&other.unwrap()));
        }
        let same = post("1", &["/x/a", "/y/a"], &["::1"]).unwrap();
        assert_eq!(same.check_base_names(), Err(GofdRefusal::SameBase("a".into())));
        assert_eq!(one.check_base_names(), Ok(()));
    }
}
