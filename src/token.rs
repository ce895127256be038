//! `edge-mirror token`: a way in for who has forgotten his, and how the links
//! look that log in.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, bail};
use edge_mirror_http::access::{Made, Vault};
use edge_mirror_main_server as master;
use edge_mirror_node::address;
use edge_mirror_settings::{ConfigError, Settings};

use crate::cli::TokenArgs;

/// Opening it logs in: the page takes the secret out of the fragment, which
/// browsers send to nobody.
pub fn login_link(page: &str, secret: &str) -> String {
    format!("{page}#login={secret}")
}

/// What to print.
pub async fn run(args: TokenArgs) -> Result<String> {
    let (vault, page) = match &args.data {
        Some(data) => {
            if !data.is_dir() {
                bail!("there is no data folder {}; see --data", data.display());
            }
            let port = args.port.unwrap_or(8000);
            let host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            (Vault::at(master::vault_path(data)), master::page_at(host, port).await)
        }
        None => {
            let config = match Settings::read(&args.config) {
                // A token may have to be replaced all the same: only the link's
                // address comes from there.
                Err(fault @ (ConfigError::NotJson { .. } | ConfigError::Invalid { .. })) => {
                    eprintln!("edge-mirror: {fault}; the link may name a wrong port");
                    Settings::of_defaults()?
                }
                read => read?,
            };
            let host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            let port = args.port.unwrap_or(config.node_port);
            let page = address::panel(&config, host, port).await;
            (Vault::at(Vault::path_beside(&std::path::absolute(&args.config)?)), page)
        }
    };
    if args.new {
        let Made { token, key_kept } = vault.replace_token()?;
        let link = login_link(&page, &token);
        let lost = "There was no good file before: if nodes had to send a key, set it again.\n\
                    原文件缺失或已损坏：如果要求节点提供密钥，请重新设置。\n\n";
        let lost = if key_kept { "" } else { lost };
        return Ok(format!(
            "{lost}New admin token, shown only now; the one before and all logins have ended.\n\
             新的管理令牌，只显示这一次；原令牌和所有登录均已失效。\n\n  {token}\n\n\
             Open this to log in / 打开链接即可登录:\n\n  {link}"
        ));
    }
    let code = match vault.new_code()? {
        Some(code) => code,
        // It never ran: then the link is the first one.
        None => {
            vault.replace_token()?;
            vault.new_code()?.unwrap_or_default()
        }
    };
    let link = login_link(&page, &code);
    Ok(format!(
        "Open this link within the hour; it works once.\n\
         请在一小时内打开链接登录，链接只能使用一次。\n\n  {link}"
    ))
}
