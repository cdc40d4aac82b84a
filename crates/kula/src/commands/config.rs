//! `kula config`: check, show and explain, without a node.

use crate::{
    cli::{Config, Global, Output},
    client::Failure,
    commands::node,
    exit::Verdict,
    print,
};
use kula_node::config::{effective, keys, load};
use serde_json::json;
use std::path::Path;

pub fn run(command: &Config, global: &Global) -> Result<Verdict, Failure> {
    match command {
        Config::Check { config } => match loaded(config.as_deref()) {
            Ok(_) => {
                println!("ok");
                Ok(Verdict::Ok)
            }
            Err(refused) => Ok(refused),
        },
        Config::Show { config, origin } => {
            let loaded = match loaded(config.as_deref()) {
                Ok(loaded) => loaded,
                Err(refused) => return Ok(refused),
            };
            let values = effective(&loaded);
            if global.output == Output::Json {
                let entry = |(key, value, origin): &(&keys::Key, String, _)| json!({ "key": key.name, "value": value, "origin": origin });
                println!("{}", json!(values.iter().map(entry).collect::<Vec<_>>()));
            } else {
                let row = |(key, value, from): (&keys::Key, String, kula_node::config::Origin)| {
                    let mut row = vec![key.name.to_string(), value];
                    if *origin {
                        row.push(format!("{from:?}").to_ascii_lowercase());
                    }
                    row
                };
                let headers: &[&str] = if *origin { &["KEY", "VALUE", "FROM"] } else { &["KEY", "VALUE"] };
                println!("{}", print::table(headers, values.into_iter().map(row).collect()));
            }
            Ok(Verdict::Ok)
        }
        Config::Explain { key } => match keys::KEYS.iter().find(|known| known.name == key) {
            Some(known) => {
                println!("{}\n  {}", known.name, known.about);
                if !known.default.is_empty() {
                    println!("  default: {}", known.default);
                }
                println!("  environment: {}", known.variable());
                Ok(Verdict::Ok)
            }
            None => {
                let near = keys::nearest(key).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                eprintln!("error K0601: there is no key `{key}`{near}\n  next: kula config show");
                Ok(Verdict::Error)
            }
        },
    }
}

fn loaded(file: Option<&Path>) -> Result<kula_node::config::Loaded, Verdict> {
    node::layers(file, Vec::new())
        .and_then(|layers| load(&layers).map_err(kula_node::StartError::from))
        .map_err(|error| node::refused(&error))
}
