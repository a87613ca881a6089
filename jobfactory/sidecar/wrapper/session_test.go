package wrapper

import (
	"net"
	"testing"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

func TestAnEndThatWasNotReportedIsKeptForTheNextConnection(t *testing.T) {
	e := &executor{log: zap.NewNop(), last: newLastLine(nil), state: newStateTracker(zap.NewNop()), stop: make(chan socket.Message, 1), ended: make(chan int, 1)}
	e.ended <- 7
	for range 100 { // whether the session sees the end or the lost connection first is random
		conn, client := net.Pipe()
		_ = client.Close()
		if e.session(t.Context(), socket.NewConn(conn)) {
			t.Fatal("reported the end over a closed connection")
		}
		if len(e.ended) != 1 {
			t.Fatal("the end is lost")
		}
	}
}
