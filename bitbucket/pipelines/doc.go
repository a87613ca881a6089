// Package pipelines is the model of bitbucket-pipelines.yml: which steps a pipeline has, in
// which order, which runners they ask for, and which of them could start now.
//
// Parse reads a file. File.Select returns the pipeline of a selector as an ordered tree of
// steps, parallel groups and stages. Pipeline.Align joins it with the steps that Bitbucket's
// API lists, and Ready returns the steps that could start now if there were a runner for them.
// Labels.ServedBy decides whether a runner can run a step.
//
// The package is pure: it reads no files, calls nothing and imports nothing of the project.
// If something cannot be known from the file, the answer is "unknown" with the reason, and
// never a guess: imports from other repositories, a key that is given twice, a value of the
// wrong type. Bitbucket's own reading decides, so compare with what its API lists (Align) before
// you rely on labels.
package pipelines
