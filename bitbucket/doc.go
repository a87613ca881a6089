// Package bitbucket is a client of the parts of Bitbucket Cloud that a runner
// scaler needs: registering, listing, disabling and deleting self-hosted
// runners, resolving slugs to UUIDs, and plain reads for the queue of
// pipelines. It implements authentication, paging, retries, the hourly budget of
// calls and the errors that callers distinguish.
//
// It does not decide which runners should exist. Its callers do. It does not store
// the state of runners either: every result is Bitbucket's answer to that call.
//
// Routes and schemas follow Atlassian's specification of the Bitbucket Cloud
// REST API 2.0 (https://developer.atlassian.com/cloud/bitbucket/rest/).
// Disabling a runner is not part of 2.0. The client uses the internal route that
// Atlassian's own autoscaler uses, and returns ErrDisableUnsupported if Bitbucket
// refuses it.
package bitbucket
