//! `edge-mirror verify`: checks every stored package's digest, by the node that uses it,
//! or without one.

mod offline;
mod online;
mod report;

use std::path::Path;

use anyhow::{Context, Result};
use edge_mirror_http::tls::TrustPolicy;
use edge_mirror_settings::Settings;
use edge_mirror_store::StoreError;

use super::{
    CheckFailed,
    client::{self, ApiClient},
    place,
};
use crate::{
    cli::{ServerUrl, VerifyArgs},
    terminal::{self, Language, live::TransferView},
};
use report::VerifyReport;

pub(super) async fn run(args: &VerifyArgs, language: Language) -> Result<()> {
    let mut view = TransferView::new(language, args.json);
    let repair = !args.no_repair;
    let report = match &args.at.node {
        Some(node) => {
            let node = (node.clone(), args.at.authority.trust());
            by_node(args, node, repair, &mut view).await?
        }
        None => {
            let file = place::config_file(args.at.config.as_deref());
            of_this_machine(args, &file, repair, &mut view).await?
        }
    };
    terminal::print(match args.json {
        true => format!("{:#}\n", report.json()),
        false => report.text(language),
    })?;
    if report.is_clean() { Ok(()) } else { Err(CheckFailed.into()) }
}

async fn by_node(
    args: &VerifyArgs,
    (node, trust): (ServerUrl, TrustPolicy),
    repair: bool,
    view: &mut TransferView,
) -> Result<VerifyReport> {
    let api = ApiClient::new(node, &trust, client::ServerKind::Node, client::token(&args.login))?;
    online::verify(&api, repair, view).await
}

/// Verifies through the node that uses the storage, if any.
async fn of_this_machine(
    args: &VerifyArgs,
    file: &Path,
    repair: bool,
    view: &mut TransferView,
) -> Result<VerifyReport> {
    let config = Settings::read(file).with_context(|| {
        terminal::say("可用 --config 或 --node 指定", "see --config and --node")
    })?;
    match offline::open(&config, repair).await {
        Ok(storage) => storage.verify(file, view).await,
        Err(error) => match error.downcast_ref::<StoreError>() {
            Some(StoreError::InUse(_)) => {
                let node = place::local(&config, &args.at.authority);
                by_node(args, node, repair, view).await.with_context(|| {
                    terminal::say(
                        format!("{error}；已改为询问正在使用它的节点，端口不同时请用 --node 指定"),
                        format!(
                            "{error}; the node there was asked, see --node if it has another port"
                        ),
                    )
                })
            }
            _ => Err(error),
        },
    }
}
