//! The place of the shared package store, as it is given on the command line.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use object_store::path::Path as ObjectPath;
use reqwest::Url;

use crate::error::UnusablePackages;

/// A folder, or a bucket of S3 and a prefix in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackagesLocation {
    Folder(PathBuf),
    S3 { bucket: String, prefix: String },
}

impl FromStr for PackagesLocation {
    type Err = UnusablePackages;

    fn from_str(text: &str) -> Result<Self, UnusablePackages> {
        if Path::new(text).is_absolute() {
            return Ok(Self::Folder(text.into()));
        }
        let url = Url::parse(text).map_err(|_| UnusablePackages::Url)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.port().is_some() || url.query().is_some() || url.fragment().is_some() {
            return Err(UnusablePackages::Decorated);
        }
        match url.scheme() {
            "file" => url.to_file_path().map(Self::Folder).map_err(|()| UnusablePackages::Url),
            "s3" => {
                let bucket = url.host_str().filter(|bucket| !bucket.is_empty());
                let bucket = bucket.ok_or(UnusablePackages::NoBucket)?.to_owned();
                let prefix = ObjectPath::from_url_path(url.path());
                let prefix = prefix.map_err(|_| UnusablePackages::Url)?.to_string();
                Ok(Self::S3 { bucket, prefix })
            }
            _ => Err(UnusablePackages::Url),
        }
    }
}

impl fmt::Display for PackagesLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_a_bucket_are_places_and_all_else_is_told_what_is_missing() {
        for (text, shown) in [
            ("/mnt/shared/packages", "/mnt/shared/packages"),
            ("file:///mnt/shared%20packages", "/mnt/shared packages"),
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ] {
            assert_eq!(text.parse::<PackagesLocation>().unwrap().to_string(), shown);
        }
        for (text, expected) in [
            ("packages", UnusablePackages::Url),
            ("", UnusablePackages::Url),
            ("ftp://host/x", UnusablePackages::Url),
            ("file://host/x", UnusablePackages::Url),
            ("s3://", UnusablePackages::NoBucket),
            ("s3:///prefix", UnusablePackages::NoBucket),
            ("s3://key:secret@bucket/x", UnusablePackages::Decorated),
            ("s3://bucket:9000/x", UnusablePackages::Decorated),
            ("s3://bucket/x?region=a", UnusablePackages::Decorated),
        ] {
            let told = text.parse::<PackagesLocation>().unwrap_err();
            assert_eq!(told, expected, "{text}");
            assert!(told.to_string().contains(" / ") && !told.to_string().contains("secret@"));
        }
    }
}
