// Package queue finds the steps that wait for a self-hosted runner.
//
// No API of Bitbucket lists them. The queue reads which pipelines are live, derives the order
// and the labels of their steps from bitbucket-pipelines.yml (package pipelines), and joins
// both with what the runners themselves report. Hints from webhooks and from runners tell it
// what to read first. The hourly budget of the credentials bounds how much it reads.
package queue
