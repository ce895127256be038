//! The name under which a meeting's package is offered.

use edge_mirror_protocol::package::PackageId;

/// The name under which the package is offered as a static file.
pub(crate) fn file_name(id: &PackageId) -> String {
    format!("meeting_{id}_pdfs.zip")
}

/// The path of that file.
pub(crate) fn package_url(id: &PackageId) -> String {
    format!("/uploads/packages/{}", file_name(id))
}

/// The meeting whose package has this name.
pub(crate) fn id_of_file(name: &str) -> Option<PackageId> {
    name.strip_prefix("meeting_")?.strip_suffix("_pdfs.zip")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_leads_back_to_its_meeting() {
        let id: PackageId = "a_pdfs.zip".parse().unwrap();
        assert_eq!(id_of_file(&file_name(&id)), Some(id));
        for bad in ["meeting__pdfs.zip", "meeting_a.zip", "a_pdfs.zip", "meeting_.._pdfs.zip"] {
            assert_eq!(id_of_file(bad), None, "{bad}");
        }
    }
}
