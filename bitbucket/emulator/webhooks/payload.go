package webhooks

import (
	"strconv"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/pipelines"
	"bitbucket-runner-scaler/bitbucket/emulator/resource"
)

// envelope is what most payloads contain.
type envelope struct {
	Actor      resource.User       `json:"actor"`
	Repository resource.Repository `json:"repository"`
}

func wrap(site resource.Site, n resource.Names, actor string) envelope {
	e := envelope{Actor: site.User(actor), Repository: site.Repository(n)}
	workspace := site.Workspace(n.Workspace, n.WorkspaceUUID)
	e.Repository.Workspace = &workspace
	return e
}

type statusPayload struct {
	envelope
	Status commitStatus `json:"commit_status"`
}

type commitStatus struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Key         string          `json:"key"`
	State       string          `json:"state"`
	Type        string          `json:"type"`
	URL         string          `json:"url"`
	RefName     string          `json:"refname,omitempty"`
	Commit      resource.Commit `json:"commit"`
	CreatedOn   resource.Time   `json:"created_on"`
	UpdatedOn   resource.Time   `json:"updated_on"`
	Links       resource.Links  `json:"links"`
}

// CommitStatus returns the payload of repo:commit_status_created and …_updated for a
// pipeline. Both forms of its address were seen at Bitbucket, so odd build numbers have one
// and even ones the other.
func CommitStatus(site resource.Site, p *pipelines.Pipeline, actor string, now time.Time) any {
	n := p.Repository.Names()
	state, number := "INPROGRESS", strconv.Itoa(p.Number)
	if p.Ended() {
		state = map[string]string{"SUCCESSFUL": "SUCCESSFUL", "STOPPED": "STOPPED"}[p.State().Result.Name]
		if state == "" {
			state = "FAILED"
		}
	}
	address := site.Page(p.Page()...).Href
	if p.Number%2 == 0 {
		address = site.Page(n.Workspace, n.Slug, "addon", "pipelines", "home").Href + "#!/results/" + number
	}
	commit := site.Commit(n, p.Target.Commit)
	return statusPayload{wrap(site, n, actor), commitStatus{
		Name: "Pipeline #" + number + " for " + p.Target.RefName, Description: state, Key: p.UUID[1:25], State: state,
		Type: "build", URL: address, RefName: p.Target.RefName, Commit: commit, CreatedOn: resource.At(p.CreatedOn), UpdatedOn: resource.At(now),
		Links: resource.Links{
			"commit": commit.Links["self"],
			"self":   {Href: commit.Links["self"].Href + "/statuses/build/" + p.UUID[1:25]},
		},
	}}
}

type (
	pushPayload struct {
		envelope
		Push pushed `json:"push"`
	}
	pushed struct {
		Changes []change `json:"changes"`
	}
	change struct {
		Old       *ref           `json:"old"`
		New       *ref           `json:"new"`
		Created   bool           `json:"created"`
		Forced    bool           `json:"forced"`
		Closed    bool           `json:"closed"`
		Truncated bool           `json:"truncated"`
		Commits   []pushedCommit `json:"commits"`
		Links     resource.Links `json:"links"`
	}
	ref struct {
		Type   string         `json:"type"`
		Name   string         `json:"name"`
		Target pushedCommit   `json:"target"`
		Links  resource.Links `json:"links"`
	}
	pushedCommit struct {
		resource.Commit
		Message string        `json:"message"`
		Date    resource.Time `json:"date"`
	}
)

// Pushed returns the payload of repo:push for one new commit on a branch. old is empty if
// the push created the branch.
func Pushed(site resource.Site, n resource.Names, actor, branch, old, hash string, now time.Time) any {
	at := func(hash string) *ref {
		return &ref{
			Type: "branch", Name: branch, Target: pushedCommit{site.Commit(n, hash), "Change of " + branch, resource.At(now)},
			Links: resource.Links{
				"self": site.API("repositories", n.Workspace, n.Slug, "refs", "branches", branch),
				"html": site.Page(n.Workspace, n.Slug, "branch", branch),
			},
		}
	}
	c := change{New: at(hash), Created: old == "", Links: resource.Links{"html": site.Page(n.Workspace, n.Slug, "branches", "compare", hash)}}
	if old != "" {
		c.Old = at(old)
	}
	c.Commits = []pushedCommit{c.New.Target}
	return pushPayload{wrap(site, n, actor), pushed{[]change{c}}}
}

type (
	pullRequestPayload struct {
		envelope
		PullRequest pullRequest `json:"pullrequest"`
	}
	pullRequest struct {
		Type        string         `json:"type"`
		ID          int            `json:"id"`
		Title       string         `json:"title"`
		State       string         `json:"state"`
		Author      resource.User  `json:"author"`
		Source      endpoint       `json:"source"`
		Destination endpoint       `json:"destination"`
		CreatedOn   resource.Time  `json:"created_on"`
		UpdatedOn   resource.Time  `json:"updated_on"`
		Links       resource.Links `json:"links"`
	}
	endpoint struct {
		Branch     resource.Branch     `json:"branch"`
		Commit     resource.Commit     `json:"commit"`
		Repository resource.Repository `json:"repository"`
	}
)

// PullRequest is a pull request of a branch into the main one.
type PullRequest struct {
	ID             int
	Branch         string
	Source, Target string // hashes; Bitbucket abbreviates them to 12 digits
}

// Changed returns the payload of a pullrequest:* event.
func Changed(site resource.Site, n resource.Names, actor, event string, pr PullRequest, now time.Time) any {
	state := "OPEN"
	if event == PullRequestMerged {
		state = "MERGED"
	}
	end := func(branch, hash string) endpoint {
		return endpoint{resource.Branch{Type: "branch", Name: branch}, site.Commit(n, hash[:min(12, len(hash))]), site.Repository(n)}
	}
	id := strconv.Itoa(pr.ID)
	e := wrap(site, n, actor)
	return pullRequestPayload{e, pullRequest{
		Type: "pullrequest", ID: pr.ID, Title: "Merge " + pr.Branch, State: state, Author: e.Actor,
		Source: end(pr.Branch, pr.Source), Destination: end(resource.MainBranch, pr.Target), CreatedOn: resource.At(now), UpdatedOn: resource.At(now),
		Links: resource.Links{
			"self": site.API("repositories", n.Workspace, n.Slug, "pullrequests", id), "html": site.Page(n.Workspace, n.Slug, "pull-requests", id),
		},
	}}
}
