// Package emulator emulates Bitbucket Cloud in memory over real HTTP: runners (REST API
// 2.0 and the older internal routes), pipelines, steps and their source file, workspaces
// and repositories, OAuth, rate limits, and the queue that assigns steps to runners. If
// Bitbucket's behaviour is not documented, the emulator shows the behaviour that is most
// difficult for a client.
//
// In addition to Bitbucket's routes it has controls under /_emulator, which queue steps,
// inject faults, set a runner's state by hand and return the emulator's state. Control is
// their Go client.
//
// The stand-in for Atlassian's runner is in package standin. The emulator delivers no
// webhooks and writes nothing to disk.
//
// The package shares no code with the client in package bitbucket. Both were written
// from the documentation, so that each reveals mistakes in the other.
package emulator
