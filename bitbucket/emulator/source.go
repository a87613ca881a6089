package emulator

import (
	"fmt"
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/source"
	"bitbucket-runner-scaler/bitbucket/emulator/webhooks"
)

// push adds a commit to a branch, tag or bookmark, and sends the event.
func (s *Server) push(repo *repository, ref string, c *source.Commit, now time.Time) string {
	old := repo.source.Head(ref)
	hash := repo.source.Push(ref, c)
	s.pushed(repo, ref, old, hash, now)
	return hash
}

func (s *Server) pushed(repo *repository, ref, old, hash string, now time.Time) {
	repo.updatedOn = now
	s.event(webhooks.Push, repo.Names(), func(site resource.Site) any {
		return webhooks.Pushed(site, repo.Names(), Username, ref, old, hash, now)
	})
}

// filesOf are the files that the pipelines of a commit can import from.
type filesOf struct {
	server *Server
	repo   *repository
	hash   string
}

// Read returns a file of the commit, or of another repository of the workspace.
func (f filesOf) Read(repository, ref, path string) ([]byte, bool) {
	if repository == "" {
		return f.repo.source.Read(f.hash, path)
	}
	other, ok := f.server.findRepository(f.repo.workspace.Slug, repository)
	if !ok {
		return nil, false
	}
	hash, ok := other.source.Find(ref)
	if !ok {
		return nil, false
	}
	return other.source.Read(hash, path)
}

// getSource returns a file at a commit or a branch. The file is the only place
// that contains a step's runs-on.
func (s *Server) getSource(c *call) answer {
	repo, refusal, ok := s.repositoryOf(c)
	if !ok {
		return refusal
	}
	hash, ok := repo.source.Find(c.PathValue("commit"))
	if !ok {
		return failure(http.StatusNotFound, fmt.Sprintf("Commit not found: %s", c.PathValue("commit")))
	}
	path := c.PathValue("path")
	file, ok := repo.source.Read(hash, path)
	if !ok {
		return failure(http.StatusNotFound, fmt.Sprintf("No such file or directory: %s", path))
	}
	a := textAnswer(http.StatusOK, string(file))
	a.header = map[string]string{"ETag": `"` + hash + `"`}
	return a
}
