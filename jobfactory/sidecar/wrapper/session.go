package wrapper

import (
	"context"
	"time"

	"go.uber.org/zap"

	"bitbucket-runner-scaler/jobfactory/sidecar/socket"
)

// keepSession keeps a session with the sidecar until the runner's end is reported
// or ctx ends. When the connection breaks it connects again, because the runner
// continues while its sidecar restarts.
func (e *executor) keepSession(ctx context.Context, conn *socket.Conn) {
	wait := socket.Backoff{Base: 50 * time.Millisecond, Maximum: 2 * time.Second}
	for {
		began := time.Now()
		if e.session(ctx, conn) || ctx.Err() != nil {
			return
		}
		if time.Since(began) > wait.Maximum {
			wait.Reset()
			e.log.Warn("lost the connection to the sidecar, connecting again")
		}
		for {
			if !wait.Sleep(ctx) {
				return
			}
			var err error
			if conn, err = socket.Dial(ctx, e.config.Dir); err == nil {
				break
			}
			e.log.Debug("the sidecar cannot be reached", zap.Error(err))
		}
		if err := conn.Send(socket.StateMessage(e.state.reports.Restart())); err != nil {
			e.log.Debug("the current state was not sent to the sidecar", zap.Error(err))
		}
	}
}

// session reports the runner's state and receives orders over one connection until
// it ends. It returns whether it has reported the runner's end.
func (e *executor) session(ctx context.Context, conn *socket.Conn) (done bool) {
	defer conn.Close()
	defer context.AfterFunc(ctx, conn.Close)()
	broken := make(chan struct{})
	go func() {
		defer close(broken)
		e.receiveOrders(conn)
	}()
	defer func() { conn.Close(); <-broken }()
	for {
		select {
		case <-broken:
			return false
		case <-e.state.reports.Changed:
			if e.sendReports(conn) != nil {
				return false
			}
		case code := <-e.ended:
			if e.sendReports(conn) == nil && conn.Send(e.endMessage(code)) == nil {
				return true
			}
			e.ended <- code // for the next connection
			return false
		}
	}
}

// endMessage reports the runner's end. The last line of a runner that has had a step is
// left out: it belongs to a build.
func (e *executor) endMessage(code int) socket.Message {
	end := socket.Message{Type: socket.TypeEnded, ExitCode: code}
	if e.state.reports.Latest().Begun == 0 {
		end.LastLine = e.last.text()
	}
	return end
}

func (e *executor) sendReports(conn *socket.Conn) error {
	for _, r := range e.state.reports.Take() {
		if err := conn.Send(socket.StateMessage(r)); err != nil {
			return err
		}
	}
	return nil
}

// receiveOrders passes orders on until the connection ends.
func (e *executor) receiveOrders(conn *socket.Conn) {
	for {
		m, err := conn.Receive()
		if err != nil {
			return
		}
		switch m.Type {
		case socket.TypeStop:
			select {
			case e.stop <- m:
			default: // the same order came over an earlier connection
			}
		case socket.TypeRefused:
			e.log.Warn("the sidecar refuses the runner's state", zap.String("reason", m.Reason))
			return
		}
	}
}
