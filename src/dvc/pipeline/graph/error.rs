//! A set of stages that is no pipeline.

use thiserror::Error;

use crate::diagnostic::{Diagnostic, Place};
use crate::dvc::pipeline::project::{OutputRef, Project};
use crate::dvc::pipeline::stage::StageAddress;
use crate::dvc::pipeline::stage_index::StageIndex;

/// Why no graph can be made of a project's stages.
#[derive(Debug, Error)]
pub(crate) enum GraphError {
    #[error("output `{path}` is made twice")]
    Duplicate { path: String, stages: [Named; 2] },
    #[error("output `{inner}` lies in output `{outer}`")]
    Overlapping { outer: String, inner: String, stages: [Named; 2] },
    #[error("stage {stage} is defined in a file inside output `{output}`")]
    StageInOutput { stage: Named, output: String, producer: Named },
    #[error("stages need each other in a circle")]
    Cycle { stages: Vec<Named> },
}

/// A stage as messages name it: its address and where it is defined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    address: StageAddress,
    place: Place,
}

impl Named {
    fn of(project: &Project, stage: StageIndex) -> Named {
        let stage = &project.stages[stage];
        let place = Place { path: stage.file.clone(), line: Some(stage.line), column: None };
        Named { address: stage.address.clone(), place }
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}`", self.address)
    }
}

impl GraphError {
    pub(super) fn duplicate(project: &Project, first: OutputRef, second: OutputRef) -> Self {
        GraphError::Duplicate {
            path: project.stages[second.stage].outs[second.out].path.clone(),
            stages: [first, second].map(|output| Named::of(project, output.stage)),
        }
    }

    pub(super) fn overlapping(project: &Project, outer: OutputRef, inner: OutputRef) -> Self {
        let path = |output: OutputRef| {
            let out = &project.stages[output.stage].outs[output.out];
            out.resolved.clone().unwrap_or_else(|| out.path.clone())
        };
        GraphError::Overlapping {
            outer: path(outer),
            inner: path(inner),
            stages: [outer, inner].map(|output| Named::of(project, output.stage)),
        }
    }

    pub(super) fn stage_in_output(project: &Project, stage: StageIndex, output: OutputRef) -> Self {
        GraphError::StageInOutput {
            stage: Named::of(project, stage),
            output: project.stages[output.stage].outs[output.out].path.clone(),
            producer: Named::of(project, output.stage),
        }
    }

    pub(super) fn cycle(project: &Project, stages: &[StageIndex]) -> Self {
        GraphError::Cycle { stages: stages.iter().map(|&stage| Named::of(project, stage)).collect() }
    }
}

impl From<GraphError> for Diagnostic {
    fn from(error: GraphError) -> Self {
        let diagnostic = Diagnostic::project(error.to_string());
        match error {
            GraphError::Duplicate { stages: [first, second], .. } if first == second => {
                diagnostic.at(second.place.clone()).detail(format!("both times by stage {second}"))
            }
            GraphError::Duplicate { stages: [first, second], .. } => diagnostic
                .at(second.place.clone())
                .detail(format!("by stage {first} at {}", first.place))
                .detail(format!("by stage {second} at {}", second.place)),
            GraphError::Overlapping { outer, inner, stages: [of_outer, of_inner] } => diagnostic
                .at(of_inner.place.clone())
                .detail(format!("`{outer}` is made by stage {of_outer} at {}", of_outer.place))
                .detail(format!("`{inner}` is made by stage {of_inner} at {}", of_inner.place))
                .hint("let each stage have a directory of its own, or list the files one by one"),
            GraphError::StageInOutput { stage, producer, .. } => diagnostic
                .at(stage.place)
                .detail(format!("the output is made by stage {producer} at {}", producer.place)),
            GraphError::Cycle { stages } => {
                let mut path: Vec<String> = stages.iter().map(Named::to_string).collect();
                path.push(path[0].clone());
                diagnostic.at(stages[0].place.clone()).detail(path.join(" needs "))
            }
        }
    }
}
