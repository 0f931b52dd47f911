// Command foreign connects with the calls of another ABI than the machine's own, when it is built for that.
package main

import "syscall"

func main() {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		err = syscall.Connect(fd, &syscall.SockaddrInet4{Addr: [4]byte{198, 18, 0, 20}, Port: 80})
	}
	said := "connected"
	if err != nil {
		said = err.Error()
	}
	syscall.Write(1, []byte(said+"\n"))
}
