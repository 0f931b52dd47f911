//go:build unix

package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxHandover bounds the message that goes with a handed-over pipe: an Error as JSON, or {} and a descriptor.
const maxHandover = 4 << 10

// SendPipe gives the other end of to a byte pipe that leads to an agent. Whoever was allowed to open the pipe
// (root, through sudo) so lends it to one who was not. The caller still closes pipe.
func SendPipe(to *net.UnixConn, pipe *os.File) error {
	_, _, err := to.WriteMsgUnix([]byte("{}"), unix.UnixRights(int(pipe.Fd())), nil)
	return err
}

// SendRefusal tells the other end why it gets no pipe.
func SendRefusal(to *net.UnixConn, refusal error) error {
	msg, err := json.Marshal(AsError(refusal))
	if err != nil {
		return err
	}
	_, err = to.Write(msg)
	return err
}

// ReceivePipe waits for what SendPipe or SendRefusal sent. A refusal comes back as an *Error.
func ReceivePipe(from *net.UnixConn) (net.Conn, error) {
	msg, oob := make([]byte, maxHandover), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := from.ReadMsgUnix(msg, oob)
	if err != nil {
		return nil, fmt.Errorf("receive carrier: %w", err)
	}
	var refusal Error
	if err := json.Unmarshal(msg[:n], &refusal); err != nil {
		return nil, fmt.Errorf("receive carrier: %w", err)
	}
	if refusal.Cause != "" {
		return nil, &refusal
	}
	return pipeFrom(oob[:oobn])
}

// pipeFrom makes a connection of the one descriptor in a control message.
func pipeFrom(oob []byte) (net.Conn, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("receive carrier: no descriptor came: %w", errors.Join(err, syscall.EBADMSG))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive carrier: no descriptor came: %w", errors.Join(err, syscall.EBADMSG))
	}
	f := os.NewFile(uintptr(fds[0]), "carrier")
	defer f.Close()
	return net.FileConn(f)
}
