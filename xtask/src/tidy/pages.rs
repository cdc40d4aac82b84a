//! Pages and code must not drift apart: a page of a disk format belongs to the file that writes the bytes.

use super::{Fault, Source};

pub fn check(sources: &[Source], faults: &mut Vec<Fault>) {
    let formats =
        sources.iter().filter(|source| source.name.starts_with("docs/format/") && source.name.ends_with(".md"));
    for page in formats {
        let included = sources.iter().any(|source| source.name.ends_with(".rs") && source.text.contains(&page.name));
        if !included {
            let what = "no source includes this page: the file that writes the bytes must include_str! it";
            faults.push(Fault { file: page.name.clone(), line: 0, what: what.into() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_nobody_includes_is_a_fault() {
        let page = || Source { name: "docs/format/x.md".into(), text: String::new() };
        let code =
            Source { name: "crates/disk/src/x.rs".into(), text: "include_str!(\"../../../docs/format/x.md\")".into() };
        let mut faults = Vec::new();
        check(&[page()], &mut faults);
        assert_eq!(faults.len(), 1);
        check(&[page(), code], &mut faults);
        assert_eq!(faults.len(), 1);
    }
}
