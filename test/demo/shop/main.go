// Command shop is the small web shop of the demo: it says who answered and which client it saw, and nothing else.
// The demo runs it twice: as the original in the namespace, and, under magpie exec, as the developer's changed copy.
package main

import (
	"flag"
	"fmt"
	"log"
	"net/http"
)

func main() {
	who := flag.String("who", "the original", "the name to answer with")
	listen := flag.String("listen", ":8080", "the address to listen on")
	flag.Parse()
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s|%s\n", *who, r.RemoteAddr)
	})
	log.Fatal(http.ListenAndServe(*listen, nil))
}
