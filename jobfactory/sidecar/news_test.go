package sidecar

import (
	"fmt"
	"testing"
	"time"
)

func TestAWaitingSidecarLogsChanges(t *testing.T) {
	var n news
	begun := time.Now()
	lines := map[string]int{}
	for at := time.Duration(0); at < time.Hour; at += 5 * time.Second {
		answer := fmt.Sprintf("the last 5 Jobs of the group failed: the next one waits %v", time.Hour-at)
		if at%time.Minute == 0 {
			answer = "bitbucket unavailable: status 503"
		}
		if n.is(answer, begun.Add(at)) {
			lines[answer[:9]]++
		}
	}
	for answer, count := range lines {
		if count != 6 {
			t.Errorf("%d lines in an hour about %q, want one every 10 minutes", count, answer)
		}
	}
	if len(lines) != 2 {
		t.Errorf("got %v", lines)
	}
	for i := range 10 * maxNews {
		n.is("answer "+string(rune('a'+i%26))+string(rune('a'+i/26)), begun)
	}
	if len(n.said) > maxNews {
		t.Errorf("%d answers are remembered", len(n.said))
	}
}
