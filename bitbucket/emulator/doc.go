// Package emulator is Bitbucket Cloud in memory, spoken to over real HTTP: its
// runners (REST API 2.0 and the older internal routes), pipelines, steps and
// source file, workspaces and repositories, OAuth, rate limits, and the queue
// that gives steps to runners. Everything that Bitbucket leaves undocumented is
// answered in the way that is hardest on a client.
//
// Besides Bitbucket's routes it has controls of its own under /_emulator: to
// queue steps, to inject faults, to set a runner's state by hand, and to look at
// what happened. Control is their Go client.
//
// The stand-in for Atlassian's runner lives in package standin; webhooks are not
// delivered. Nothing is kept on disk.
//
// The package shares no code with the client in package bitbucket: both were
// written from the facts, so that each finds the other's mistakes.
package emulator
