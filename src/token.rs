//! `edge-mirror token`: a way in for operators without a token, and the form of links
//! that log in.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use anyhow::{Result, bail};
use edge_mirror_http::access::{NewCredentials, Vault};
use edge_mirror_main_server as master;
use edge_mirror_node::address;
use edge_mirror_settings::{ConfigError, Settings};
use tokio::net::TcpStream;
use url::Url;

use crate::{
    cli::{ServerUrl, TokenArgs},
    commands,
    terminal::{Language, say},
};

/// Returns a link that logs in: the page takes the secret from the fragment, which
/// browsers send to nobody.
pub fn login_link(page: &str, secret: &str) -> String {
    format!("{page}#login={secret}")
}

/// Returns the text to print.
pub async fn run(args: TokenArgs) -> Result<String> {
    let (vault, page) = vault_and_page(&args).await?;
    let (page, here) = match is_only_here(&page).await {
        true => {
            let here = say(
                "\n\n它只监听本机，请在这台机器上打开。",
                "\n\nIt listens on this machine only: open the link here.",
            );
            (on_this_machine(&page), here)
        }
        false => (page, String::new()),
    };
    if args.new {
        return new_token(&vault, &page, &here);
    }
    let code = match vault.new_code()? {
        Some(code) => code,
        // It never ran: this is the first link.
        None => {
            vault.replace_token()?;
            vault.new_code()?.unwrap_or_default()
        }
    };
    let link = login_link(&page, &code);
    Ok(say(
        format!("请在一小时内打开链接登录，链接只能使用一次：\n\n  {link}{here}"),
        format!("Open this link within an hour to log in; it works once:\n\n  {link}{here}"),
    ))
}

async fn vault_and_page(args: &TokenArgs) -> Result<(Vault, String)> {
    let host = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    if let Some(data) = &args.data {
        if !data.is_dir() {
            bail!(say(
                format!("没有数据文件夹 {}；见 --data", data.display()),
                format!("there is no data folder {}; see --data", data.display()),
            ));
        }
        let port = args.port.unwrap_or(8000);
        let https = commands::https_port(&ServerUrl::local(port, false)).await;
        let page = master::page_at(host, https.unwrap_or(port), https.is_some()).await;
        return Ok((Vault::at(master::vault_path(data)), page));
    }
    let config = match Settings::read(&args.config) {
        // A token may have to be replaced anyway: only the link's address comes
        // from there.
        Err(fault @ (ConfigError::NotJson { .. } | ConfigError::Invalid { .. })) => {
            let fault = fault.message_in(Language::from_env() == Language::Chinese);
            let note = say("链接中的端口可能不对", "the link may have the wrong port");
            eprintln!("edge-mirror: {fault}; {note}");
            Settings::from_defaults()?
        }
        read => read?,
    };
    let page = address::panel(&config, host, args.port.unwrap_or(config.node_port)).await;
    Ok((Vault::at(Vault::path_beside(&std::path::absolute(&args.config)?)), page))
}

fn new_token(vault: &Vault, page: &str, here: &str) -> Result<String> {
    let NewCredentials { token, key_kept } = vault.replace_token()?;
    let link = login_link(page, &token);
    let lost = match key_kept {
        true => String::new(),
        false => say(
            "原文件缺失或已损坏：如果要求节点提供密钥，请重新设置。\n\n",
            "The file was missing or damaged: if nodes have to send a key, set it again.\n\n",
        ),
    };
    Ok(say(
        format!(
            "{lost}新的管理令牌，只显示这一次；原令牌和所有登录均已失效。\n\n  {token}\n\n\
             打开链接即可登录：\n\n  {link}{here}"
        ),
        format!(
            "{lost}The new admin token, shown only now; the old one and all logins have \
             stopped working.\n\n  {token}\n\nOpen this link to log in:\n\n  {link}{here}"
        ),
    ))
}

/// More than any machine takes to answer itself.
const LOOK: Duration = Duration::from_secs(1);

/// True if a service listens on loopback alone: then a link with the machine's network
/// address leads nowhere.
async fn is_only_here(page: &str) -> bool {
    let Ok(url) = page.parse::<Url>() else { return false };
    let port = url.port_or_known_default().unwrap_or(80);
    let answers = async |host: &str| {
        let connecting = TcpStream::connect((host.trim_matches(['[', ']']), port));
        matches!(tokio::time::timeout(LOOK, connecting).await, Ok(Ok(_)))
    };
    !answers(url.host_str().unwrap_or_default()).await && answers("127.0.0.1").await
}

/// Returns the page's address on this machine.
fn on_this_machine(page: &str) -> String {
    let Ok(mut url) = page.parse::<Url>() else { return page.to_owned() };
    let _ = url.set_host(Some("127.0.0.1"));
    url.into()
}
