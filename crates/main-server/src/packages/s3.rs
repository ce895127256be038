//! The client of an S3 server, by the environment that all of its programs share.

use std::{fmt, sync::Arc, time::Duration};

use edge_mirror_http::tls;
use object_store::{
    BackoffConfig, ClientConfigKey, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey},
    client::{HttpClient, HttpConnector},
};

use crate::error::UnusablePackages;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence of the server; a part of an upload has to get there within it.
const SILENCE: Duration = Duration::from_secs(60);
/// Tries again after the first one; callers try again, too, with longer pauses.
const MAX_RETRIES: usize = 2;
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes the clients as all others of this program are made.
#[derive(Debug)]
struct TlsConnector;

impl HttpConnector for TlsConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_plain = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = tls::http(tls::client())
            .https_only(!is_plain.is_some_and(|value| is_on(&value)))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE)
            .build();
        let client = client.map_err(|source| object_store::Error::Generic {
            store: "S3",
            source: Box::new(source),
        })?;
        Ok(HttpClient::new(client))
    }
}

/// The ways in which a variable of the environment says yes.
fn is_on(value: &str) -> bool {
    ["1", "true", "on", "yes", "y"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

/// The variables of the environment by which programs find an S3 server, credentials
/// included.
#[derive(Clone, Default)]
pub struct S3Environment(Vec<(String, String)>);

impl S3Environment {
    /// Reads this process's environment.
    pub fn of_process() -> Self {
        // A variable that is no text is none of these.
        Self::new(std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// Takes those of the variables that are about S3.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = variables.into_iter().filter(|(name, _)| name.starts_with("AWS_"));
        Self(ours.collect())
    }

    fn builder(&self) -> AmazonS3Builder {
        let keys = self.0.iter().filter_map(|(name, value)| {
            Some((name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>().ok()?, value))
        });
        keys.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value))
    }
}

impl fmt::Debug for S3Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// The client, and what must be shown nowhere.
pub(super) fn connect(
    bucket: &str,
    environment: &S3Environment,
) -> Result<(Arc<AmazonS3>, Vec<String>), UnusablePackages> {
    use AmazonS3ConfigKey as Key;
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: MAX_RETRIES,
        retry_timeout: RETRY_TIMEOUT,
    };
    let builder = environment
        .builder()
        .with_bucket_name(bucket)
        .with_retry(retry)
        // Not every server has it.
        .with_disable_bulk_delete(true)
        .with_http_connector(TlsConnector);
    let value = |key| builder.get_config_value(&key).filter(|value| !value.is_empty());
    let is_true = |key| value(key).is_some_and(|value| is_on(&value));
    let has_credentials = [
        Key::AccessKeyId,
        Key::SecretAccessKey,
        Key::WebIdentityTokenFile,
        Key::ContainerCredentialsRelativeUri,
        Key::ContainerCredentialsFullUri,
        Key::MetadataEndpoint,
    ];
    if !has_credentials.into_iter().any(|key| value(key).is_some()) && !is_true(Key::SkipSignature)
    {
        return Err(UnusablePackages::NoCredentials);
    }
    let endpoint = value(Key::S3Endpoint).or_else(|| value(Key::Endpoint));
    let allows_http = is_true(Key::Client(ClientConfigKey::AllowHttp));
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) && !allows_http {
        return Err(UnusablePackages::PlainHttp);
    }
    let secrets = [Key::AccessKeyId, Key::SecretAccessKey, Key::Token];
    let secrets: Vec<_> = secrets.into_iter().filter_map(value).collect();
    let s3 = builder.build().map_err(|error| {
        let mut cause = error.to_string();
        secrets.iter().for_each(|secret| cause = cause.replace(secret.as_str(), "***"));
        UnusablePackages::Environment(cause)
    })?;
    Ok((Arc::new(s3), secrets))
}
