//! What an operator asks for, as JSON; checked and turned into the settings of other rooms. Pure.

use crate::OperatorError;
use kula_placement::{KeyspaceSettings, Mode, ReadRepair};
use kula_schema::{OptionError, TableKind, TableOptions};
use kula_types::Name;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// `POST /v1/keyspaces`. What is left out is the default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the keyspace's name and settings")]
pub struct KeyspaceWish {
    pub name: String,
    /// A number; replication by data centre is a later version's.
    #[serde(default)]
    pub rf: Option<Value>,
    #[serde(default)]
    pub mode: Option<String>,
    #[serde(default)]
    pub read_repair: Option<String>,
    #[serde(default)]
    pub hinted_handoff: Option<bool>,
    #[serde(default)]
    pub anti_entropy: Option<bool>,
}

/// `PATCH /v1/keyspaces/{keyspace}`. What is left out stays as it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "an object with settings of a keyspace")]
pub struct KeyspaceSettingsWish {
    pub rf: Option<Value>,
    pub mode: Option<String>,
    pub read_repair: Option<String>,
    pub hinted_handoff: Option<bool>,
    pub anti_entropy: Option<bool>,
}

/// `POST /v1/keyspaces/{keyspace}/tables`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the table's name and kind")]
pub struct TableWish {
    pub name: String,
    /// `causal` or `lww`, which is the default.
    #[serde(default)]
    pub kind: Option<String>,
    #[serde(default)]
    pub options: Option<BTreeMap<String, Value>>,
}

impl KeyspaceWish {
    pub fn checked(self) -> Result<(Name, KeyspaceSettings), OperatorError> {
        let KeyspaceWish { name, rf, mode, read_repair, hinted_handoff, anti_entropy } = self;
        let name = checked_name(&name)?;
        let wish = KeyspaceSettingsWish { rf, mode, read_repair, hinted_handoff, anti_entropy };
        Ok((name, wish.applied_to(KeyspaceSettings::default())?))
    }
}

impl KeyspaceSettingsWish {
    /// `settings` with what is wished in place.
    pub fn applied_to(self, mut settings: KeyspaceSettings) -> Result<KeyspaceSettings, OperatorError> {
        match self.rf {
            None | Some(Value::Null) => {}
            Some(Value::Object(_) | Value::String(_)) => {
                return Err(OperatorError::ModeNotThereYet { what: "replication by data centre" });
            }
            Some(rf) => {
                let number = rf.as_u64().and_then(|rf| u32::try_from(rf).ok());
                settings.rf = number.ok_or_else(|| setting("rf", "rf is a whole number"))?;
            }
        }
        match self.mode.as_deref() {
            None => {}
            Some(word) => match word.parse() {
                Ok(Mode::Strict) => settings.mode = Mode::Strict,
                Ok(Mode::Sloppy) => return Err(OperatorError::ModeNotThereYet { what: "the mode sloppy" }),
                Err(_) => return Err(setting("mode", "mode is strict")),
            },
        }
        if let Some(word) = self.read_repair {
            let parsed = word.parse::<ReadRepair>();
            settings.read_repair =
                parsed.map_err(|_| setting("read_repair", "read_repair is blocking, background or off"))?;
        }
        settings.hinted_handoff = self.hinted_handoff.unwrap_or(settings.hinted_handoff);
        settings.anti_entropy = self.anti_entropy.unwrap_or(settings.anti_entropy);
        settings.check().map_err(|error| setting("rf", error.to_string()))?;
        Ok(settings)
    }
}

impl TableWish {
    pub fn checked(self) -> Result<(Name, TableKind, TableOptions), OperatorError> {
        let name = checked_name(&self.name)?;
        let kind = match self.kind.as_deref() {
            None | Some("lww") => TableKind::Lww,
            Some("causal") => TableKind::Causal,
            Some(_) => return Err(setting("kind", "kind is causal or lww")),
        };
        let pairs = self.options.unwrap_or_default();
        let options = TableOptions::parse(pairs.keys().map(|key| (key.as_str(), ""))).map_err(|error| match error {
            OptionError::NotThereYet { .. } => OperatorError::OptionNotThereYet { what: error.to_string() },
            OptionError::Unknown { .. } => setting("options", error.to_string()),
        })?;
        Ok((name, kind, options))
    }
}

fn checked_name(name: &str) -> Result<Name, OperatorError> {
    name.parse().map_err(OperatorError::Name)
}

fn setting(name: &'static str, accepts: impl Into<String>) -> OperatorError {
    OperatorError::Setting { name, accepts: accepts.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace(json: &str) -> String {
        match serde_json::from_str::<KeyspaceWish>(json).map(KeyspaceWish::checked) {
            Ok(Ok((name, settings))) => format!("{name} {settings:?}"),
            Ok(Err(error)) => format!("refused: {error}"),
            Err(error) => format!("not a wish: {error}"),
        }
    }

    fn table(json: &str) -> String {
        match serde_json::from_str::<TableWish>(json).map(TableWish::checked) {
            Ok(Ok((name, kind, options))) => format!("{name} {kind:?} {options:?}"),
            Ok(Err(error)) => format!("refused: {error}"),
            Err(error) => format!("not a wish: {error}"),
        }
    }

    #[test]
    fn a_keyspace_is_checked_before_anybody_is_asked() {
        let wishes = [
            r#"{"name":"shop"}"#,
            r#"{"name":"shop","rf":null,"mode":null}"#,
            r#"{"name":"shop","rf":1,"mode":"strict","read_repair":"off","hinted_handoff":false,"anti_entropy":false}"#,
            r#"{"name":"Shop"}"#,
            r#"{"name":""}"#,
            r#"{"name":"shop","rf":0}"#,
            r#"{"name":"shop","rf":-1}"#,
            r#"{"name":"shop","rf":1.5}"#,
            r#"{"name":"shop","rf":99999999999}"#,
            r#"{"name":"shop","rf":{"dc1":3}}"#,
            r#"{"name":"shop","mode":"sloppy"}"#,
            r#"{"name":"shop","mode":"loose"}"#,
            r#"{"name":"shop","read_repair":"maybe"}"#,
            r#"{"name":"shop","replication":3}"#,
            r#"[]"#,
        ];
        insta::assert_snapshot!(wishes.map(|json| format!("{json}\n    {}", keyspace(json))).join("\n"));
    }

    #[test]
    fn what_a_change_leaves_out_stays() {
        let before = KeyspaceSettings { rf: 2, read_repair: ReadRepair::Off, ..KeyspaceSettings::default() };
        let changed =
            |json: &str| serde_json::from_str::<KeyspaceSettingsWish>(json).unwrap().applied_to(before.clone());
        assert_eq!(changed("{}").unwrap(), before);
        let without_hints = KeyspaceSettings { hinted_handoff: false, ..before.clone() };
        assert_eq!(changed(r#"{"hinted_handoff":false}"#).unwrap(), without_hints);
        assert!(matches!(changed(r#"{"rf":0}"#), Err(OperatorError::Setting { name: "rf", .. })));
        assert!(serde_json::from_str::<KeyspaceSettingsWish>(r#"{"name":"shop"}"#).is_err());
    }

    #[test]
    fn a_table_is_lww_unless_told_otherwise() {
        let wishes = [
            r#"{"name":"carts"}"#,
            r#"{"name":"carts","kind":"causal","options":{}}"#,
            r#"{"name":"carts","kind":"bucket"}"#,
            r#"{"name":"carts","options":{"lww_collapse":true}}"#,
            r#"{"name":"carts","options":{"speed":"high"}}"#,
            r#"{"name":"../etc"}"#,
        ];
        insta::assert_snapshot!(wishes.map(|json| format!("{json}\n    {}", table(json))).join("\n"));
    }
}
