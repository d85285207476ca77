/*
 * limit PORT FILE: a server that does the least possible work, to show how fast a server can be on this kernel. One epoll loop
 * reads once from each connection, parses nothing, writes the bytes of FILE and closes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int count, char **words)
{
    static char request[8192], response[8192];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event ready[64], event = {.events = EPOLLIN};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), loop = epoll_create1(0), on = 1;
    ssize_t length = count == 3 ? read(open(words[2], O_RDONLY), response, sizeof response) : -1;
    if (length < 0)
        return 2;
    address.sin_port = htons(atoi(words[1]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096))
        return 1;
    event.data.fd = listener;
    epoll_ctl(loop, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        for (int number = epoll_wait(loop, ready, 64, -1); number-- > 0;) {
            int connection = ready[number].data.fd;
            if (connection == listener) {
                while ((event.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
                    epoll_ctl(loop, EPOLL_CTL_ADD, event.data.fd, &event);
            } else {
                if (recv(connection, request, sizeof request, 0) > 0)
                    send(connection, response, length, MSG_NOSIGNAL);
                close(connection);
            }
        }
    }
}
