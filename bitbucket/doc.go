// Package bitbucket is a client of the parts of Bitbucket Cloud that a runner
// scaler needs: registering, listing, disabling and deleting self-hosted
// runners, resolving slugs to UUIDs, and plain reads for the queue of
// pipelines. It owns authentication, paging, retries, the hourly budget of
// calls and the errors that callers tell apart.
//
// It holds no opinion about which runner should exist: those rules live with
// its callers. It keeps no state of runners either; every answer is what
// Bitbucket said at that moment.
//
// Routes and schemas follow Atlassian's specification of the Bitbucket Cloud
// REST API 2.0 (https://developer.atlassian.com/cloud/bitbucket/rest/).
// Disabling a runner is not part of 2.0: it uses the internal route that
// Atlassian's own autoscaler uses, and tells its callers where that is refused.
package bitbucket
