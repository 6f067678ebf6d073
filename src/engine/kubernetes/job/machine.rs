//! What a pod gets: cpus, memory, GPUs, scratch space; and the short spelling `CPU-MEM[+GPU*N]` of a machine.
//!
//! | machine | cpus | memory | GPUs |
//! |---|---|---|---|
//! | `8-32000` | 8 | 32000M | |
//! | `500m-2Gi` | 500m | 2Gi | |
//! | `4-64000+nvidia-tesla-k80*1` | 4 | 64000M | 1, on nodes labelled `accelerator=nvidia-tesla-k80` |
//! | `m`, `l+v100`, … | | | the sizes that the Iterative provider gave names to |

use crate::model::quantity::{Quantity, QuantityError};

/// The resources of a pod; what is `None` is left to the cluster's defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    pub cpus: Option<Quantity>,
    pub memory: Option<Quantity>,
    pub gpus: u32,
    /// Scratch space, Kubernetes' `ephemeral-storage`.
    pub disk: Option<Quantity>,
    /// The value of the node label `accelerator`.
    pub accelerator: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MachineError {
    #[error(
        "machine `{0}` is neither a known size nor `CPU-MEM[+GPU*N]`, such as `8-32Gi` or `4-64000+nvidia-tesla-t4*1`"
    )]
    Shape(String),
    #[error("machine `{machine}`")]
    Amount { machine: String, source: QuantityError },
}

/// The named sizes of terraform-provider-iterative 0.11, `task/k8s/resources/resource_job.go`.
const NAMED: [(&str, &str); 11] = [
    ("s", "1-1000"),
    ("m", "8-32000"),
    ("l", "32-128000"),
    ("xl", "64-256000"),
    ("m+t4", "4-16000+nvidia-tesla-t4*1"),
    ("m+k80", "4-64000+nvidia-tesla-k80*1"),
    ("l+k80", "32-512000+nvidia-tesla-k80*8"),
    ("xl+k80", "64-768000+nvidia-tesla-k80*16"),
    ("m+v100", "8-64000+nvidia-tesla-v100*1"),
    ("l+v100", "32-256000+nvidia-tesla-v100*4"),
    ("xl+v100", "64-512000+nvidia-tesla-v100*8"),
];

impl Resources {
    /// Reads a machine; memory without a unit counts in `M`, as the Iterative provider has it.
    pub(crate) fn parse_machine(machine: &str) -> Result<Self, MachineError> {
        let shape = || MachineError::Shape(machine.to_owned());
        let amount = |text: &str| {
            Quantity::parse(text).map_err(|source| MachineError::Amount { machine: machine.to_owned(), source })
        };
        let spelled = NAMED.iter().find(|(name, _)| *name == machine).map_or(machine, |(_, spelled)| spelled);
        let (size, gpu) = match spelled.split_once('+') {
            Some((size, gpu)) => (size, Some(gpu)),
            None => (spelled, None),
        };
        let (cpus, memory) = size.split_once('-').ok_or_else(shape)?;
        let has_unit = memory.ends_with(|c: char| c.is_ascii_alphabetic());
        let memory = amount(&if has_unit { memory.to_owned() } else { format!("{memory}M") })?;
        let (accelerator, gpus) = match gpu {
            Some(gpu) => {
                let (model, count) = gpu.split_once('*').ok_or_else(shape)?;
                let count = count.parse().ok().filter(|count| *count > 0).ok_or_else(shape)?;
                (Some(model).filter(|model| !model.is_empty()).map(str::to_owned), count)
            }
            None => (None, 0),
        };
        Ok(Resources { cpus: Some(amount(cpus)?), memory: Some(memory), gpus, disk: None, accelerator })
    }

    /// Takes what is missing here from `fallback`.
    #[must_use]
    pub(crate) fn or(self, fallback: &Resources) -> Self {
        let gpus = if self.gpus == 0 { fallback.gpus } else { self.gpus };
        Resources {
            cpus: self.cpus.or_else(|| fallback.cpus.clone()),
            memory: self.memory.or_else(|| fallback.memory.clone()),
            gpus,
            disk: self.disk.or_else(|| fallback.disk.clone()),
            accelerator: self.accelerator.or_else(|| fallback.accelerator.clone()).filter(|_| gpus > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(machine: &str, expected: Option<(&str, &str, u32, Option<&str>)>) {
        let parsed = Resources::parse_machine(machine).ok().map(|resources| {
            let text = |quantity: Option<Quantity>| quantity.expect("a machine has it").as_str().to_owned();
            (text(resources.cpus), text(resources.memory), resources.gpus, resources.accelerator)
        });
        let expected = expected.map(|(cpus, memory, gpus, accelerator)| {
            (cpus.to_owned(), memory.to_owned(), gpus, accelerator.map(str::to_owned))
        });
        assert_eq!(parsed, expected, "{machine}");
    }

    #[test]
    fn machines_are_read_as_the_old_provider_did_and_with_units() {
        check("8-32000", Some(("8", "32000M", 0, None)));
        check("500m-2Gi", Some(("500m", "2Gi", 0, None)));
        check("m", Some(("8", "32000M", 0, None)));
        check("l+v100", Some(("32", "256000M", 4, Some("nvidia-tesla-v100"))));
        check("4-64000+nvidia-tesla-k80*2", Some(("4", "64000M", 2, Some("nvidia-tesla-k80"))));
        check("4-64000+*2", Some(("4", "64000M", 2, None)));
        for wrong in ["", "8", "8-", "-8", "8-32000+t4", "8-32000+t4*0", "8-32000+t4*x", "huge"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_stage_wins_over_the_defaults() {
        let own = Resources { memory: Quantity::parse("4Gi").ok(), ..Resources::default() };
        let merged = own.or(&Resources::parse_machine("m+t4").expect("a size"));
        assert_eq!(merged.memory, Quantity::parse("4Gi").ok());
        assert_eq!((merged.gpus, merged.accelerator.as_deref()), (1, Some("nvidia-tesla-t4")));
    }
}
