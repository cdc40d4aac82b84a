//! `kula explain CODE`: the page behind an error code.

use crate::{client::Failure, exit::Verdict};
use kula_operator::codes;

pub fn run(code: &str) -> Result<Verdict, Failure> {
    if code == "list" {
        for code in codes::ALL {
            println!("{}  {}", code.code, code.title);
        }
        return Ok(Verdict::Ok);
    }
    match codes::find(&code.to_ascii_uppercase()) {
        Some(code) => {
            println!("{}", code.page.trim_end());
            Ok(Verdict::Ok)
        }
        None => {
            eprintln!("error: {code:?} is not a code of this version\n  next: kula explain list");
            Ok(Verdict::Error)
        }
    }
}
