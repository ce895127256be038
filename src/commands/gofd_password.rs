//! `edge-mirror gofd-password`: encrypts a password for GoFD's configuration.

use std::io::{self, BufRead};

use anyhow::{Context, Result, bail};
use edge_mirror_base::tasks;
use edge_mirror_gofd::EncryptedPassword;

use crate::{
    cli::GofdPasswordArgs,
    terminal::{self, Language},
};

pub(super) async fn run(args: GofdPasswordArgs, language: Language) -> Result<()> {
    let text = tasks::blocking(move || answer(&args, language)).await?;
    terminal::print(text)?;
    Ok(())
}

fn answer(args: &GofdPasswordArgs, language: Language) -> Result<String> {
    if let (Some(text), Some(factor)) = (&args.decrypt, &args.factor) {
        let encrypted = EncryptedPassword { factor: factor.clone(), text: text.clone() };
        return Ok(format!("{}\n", encrypted.decrypt()?));
    }
    let password = match &args.password {
        Some(password) => password.clone(),
        None => first_line(language)?,
    };
    if password.is_empty() {
        bail!(language.of("密码为空", "the password is empty"));
    }
    let EncryptedPassword { factor, text } = EncryptedPassword::new(&password)?;
    // In GoFD's own form.
    Ok(format!("factor = {factor}\nstxt = {text}\n"))
}

fn first_line(language: Language) -> Result<String> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.context(language.of("读取密码失败", "the password can't be read"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
