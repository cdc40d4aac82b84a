//! Fuzz targets: any bytes into the decoders. `cargo test` runs each for a moment; a fuzzer runs them for as long as it
//! is told to.

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kula_lattice::{
        Context, ContextKey, Join, Mutation, Partition, Seal,
        codec::{self, Input},
    };
    use kula_types::{PartitionKey, TableId, Timestamp};

    const ITERATIONS: usize = 5_000;

    /// Whatever decodes must be fit for all that is done to data.
    fn use_it(partition: Partition) {
        let digest = partition.digest(None, Seal::NONE);
        let mut compacted = partition.clone();
        compacted.compact(Some(Timestamp::MAX), None);
        assert_eq!(compacted.digest(None, Seal::NONE), digest);
        compacted.join(partition.clone());
        assert_eq!(compacted.digest(None, Seal::NONE), digest);
        std::hint::black_box(partition.view(Timestamp::MIN, None));
    }

    #[test]
    fn fuzz_mutation() {
        bolero::check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
            let bytes = Bytes::copy_from_slice(input);
            if let Ok(mutation) = Mutation::decode(&bytes) {
                assert_eq!(mutation.encode(), bytes);
                use_it(mutation.delta);
            }
        });
    }

    #[test]
    fn fuzz_partition() {
        bolero::check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
            let bytes = Bytes::copy_from_slice(input);
            let mut reader = Input::new(&bytes);
            if let Ok(partition) = codec::decode_partition(&mut reader) {
                let mut out = Vec::new();
                codec::encode_partition(&partition, &mut out);
                assert_eq!(out, bytes[..reader.position()]);
                use_it(partition);
            }
        });
    }

    #[test]
    fn fuzz_context() {
        let keys = [ContextKey { id: 0, secret: [0; 32] }];
        let key = PartitionKey(Bytes::from_static(b"k"));
        bolero::check!().with_iterations(ITERATIONS).for_each(|input: &[u8]| {
            let text = String::from_utf8_lossy(input);
            assert!(Context::open(&text, TableId([0; 16]), &key, &keys).is_err());
        });
    }
}
