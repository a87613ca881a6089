// Package clients runs client libraries for Bitbucket Cloud that others wrote against the
// emulator, unchanged, so that the emulator is like Bitbucket and not like our own client.
// `make e2e-full` runs its tests. It is a module of its own, because nothing else needs the
// libraries. Those of npm are in the folder npm, with a lock file, and are installed into a
// temporary folder.
package clients
