package emulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"bitbucket-runner-scaler/bitbucket/emulator/faults"
	"bitbucket-runner-scaler/bitbucket/emulator/fields"
)

// answer is a response before it is written, so that faults can change it.
type answer struct {
	status int
	// kind is the content type. Empty means none.
	kind   string
	body   []byte
	header map[string]string
}

const (
	kindJSON = "application/json; charset=utf-8"
	kindText = "text/plain; charset=utf-8"
)

func jsonAnswer(status int, body any) answer {
	data, err := json.Marshal(body)
	if err != nil {
		// All callers pass types of this package that can be encoded.
		return answer{status: http.StatusInternalServerError, kind: kindText, body: []byte(err.Error())}
	}
	return answer{status: status, kind: kindJSON, body: data}
}

func textAnswer(status int, text string) answer {
	return answer{status: status, kind: kindText, body: []byte(text)}
}

// noContent has a content type although it has no body, as clients expect that read it from
// each answer.
func noContent() answer {
	return answer{status: http.StatusNoContent, kind: "text/html; charset=utf-8"}
}

// errorBody is Bitbucket's schema `error`.
type errorBody struct {
	Type  string      `json:"type"`
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Message string              `json:"message"`
	Detail  any                 `json:"detail,omitempty"`
	Fields  map[string][]string `json:"fields,omitempty"`
}

func failure(status int, message string) answer {
	return jsonAnswer(status, errorBody{Type: "error", Error: errorDetail{Message: message}})
}

func badFields(faults map[string][]string) answer {
	return jsonAnswer(http.StatusBadRequest, errorBody{Type: "error", Error: errorDetail{Message: "Bad request", Fields: faults}})
}

// faultAnswer returns an error page as Bitbucket's front end sends it: plain text or HTML,
// not JSON.
func faultAnswer(status int) answer {
	switch {
	case status == http.StatusTooManyRequests:
		return tooManyRequests()
	case status >= http.StatusInternalServerError:
		return answer{status: status, kind: "text/html; charset=utf-8", body: fmt.Appendf(nil,
			"<!DOCTYPE html><html><head><title>%[1]d</title></head><body><h1>%[1]d %[2]s</h1></body></html>", status, http.StatusText(status))}
	case status == http.StatusNoContent || status == http.StatusNotModified:
		return answer{status: status}
	case status < http.StatusBadRequest:
		return jsonAnswer(status, struct{}{})
	}
	return failure(status, http.StatusText(status))
}

func tooManyRequests() answer {
	return textAnswer(http.StatusTooManyRequests, "Rate limit for this resource has been exceeded")
}

// write sends an answer. A truncating fault cuts it in the middle.
func (s *Server) write(w http.ResponseWriter, a answer, f faults.Fault) {
	h := w.Header()
	h.Set("Date", s.clock.Now().UTC().Format(http.TimeFormat))
	if a.kind != "" {
		h.Set("Content-Type", a.kind)
	}
	if len(a.body) > 0 {
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	for name, value := range a.header {
		h.Set(name, value)
	}
	w.WriteHeader(a.status)
	if f.Truncate && len(a.body) > 0 {
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler) // net/http closes the connection without logging
	}
	_, _ = w.Write(a.body) // it fails if the caller has disconnected
}

// partial applies the parameter `fields` to an answer.
func partial(c *call, a *answer) {
	given := c.URL.Query().Get("fields")
	if given == "" || a.status >= http.StatusMultipleChoices || a.kind != kindJSON {
		return
	}
	if body, err := fields.Apply(a.body, given); err == nil { // an answer of that kind is JSON
		a.body = jsonAnswer(a.status, body).body
	}
}
