package emulator

import (
	"fmt"
	"net/http"
	"time"

	"bitbucket-runner-scaler/bitbucket/emulator/resource"
	"bitbucket-runner-scaler/bitbucket/emulator/source"
	"bitbucket-runner-scaler/bitbucket/emulator/webhooks"
)

// push adds a commit to a branch, and sends the event.
func (s *Server) push(repo *repository, branch string, c *source.Commit, now time.Time) string {
	old := repo.source.Head(branch)
	hash := repo.source.Push(branch, c)
	repo.updatedOn = now
	s.event(webhooks.Push, repo.Names(), func(site resource.Site) any {
		return webhooks.Pushed(site, repo.Names(), Username, branch, old, hash, now)
	})
	return hash
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
	file, ok := repo.source.Read(hash)
	if path := c.PathValue("path"); !ok || path != source.File {
		return failure(http.StatusNotFound, fmt.Sprintf("No such file or directory: %s", path))
	}
	a := textAnswer(http.StatusOK, string(file))
	a.header = map[string]string{"ETag": `"` + hash + `"`}
	return a
}
