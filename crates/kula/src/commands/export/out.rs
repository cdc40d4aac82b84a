//! Where an export goes: standard output, or a file that appears under its name when it is whole.

use crate::commands::import::{TransferError, beside, is_standard, limits::FILE_BUFFER_BYTES};
use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

pub struct Out {
    to: To,
    pub bytes: u64,
}

enum To {
    Standard(BufWriter<io::Stdout>),
    File { writer: BufWriter<File>, temporary: PathBuf, path: PathBuf },
}

impl Out {
    pub fn create(path: &Path) -> Result<Self, TransferError> {
        if is_standard(path) {
            return Ok(Out { to: To::Standard(BufWriter::with_capacity(FILE_BUFFER_BYTES, io::stdout())), bytes: 0 });
        }
        let temporary = beside(path, ".kula-export");
        let file = File::options().create(true).write(true).truncate(true).open(&temporary);
        let file = file.map_err(TransferError::file(format!("write {}", temporary.display())))?;
        let writer = BufWriter::with_capacity(FILE_BUFFER_BYTES, file);
        Ok(Out { to: To::File { writer, temporary, path: path.to_path_buf() }, bytes: 0 })
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        match &mut self.to {
            To::Standard(writer) => writer.write_all(bytes),
            To::File { writer, .. } => writer.write_all(bytes),
        }
        .map_err(|source| self.failed(source))
    }

    /// The file gets its name; what had that name is replaced.
    #[allow(clippy::disallowed_methods, reason = "the user's own file, not the database's")]
    pub fn finish(mut self) -> Result<(), TransferError> {
        match &mut self.to {
            To::Standard(writer) => writer.flush(),
            To::File { writer, temporary, path } => writer
                .flush()
                .and_then(|()| writer.get_ref().sync_all())
                .and_then(|()| std::fs::rename(temporary, path)),
        }
        .map_err(|source| self.failed(source))
    }

    /// Nothing is left of it.
    #[allow(clippy::disallowed_methods, reason = "the user's own file, not the database's")]
    pub fn abandon(self) {
        if let To::File { temporary, .. } = self.to {
            // Left behind it would be overwritten by the next export.
            std::fs::remove_file(temporary).ok();
        }
    }

    fn failed(&self, source: io::Error) -> TransferError {
        let what = match &self.to {
            To::Standard(_) => "write to standard output".to_string(),
            To::File { path, .. } => format!("write {}", path.display()),
        };
        TransferError::File { what, source }
    }
}
