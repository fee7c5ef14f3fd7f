# A worker as those that run on einhorn: takes the sockets that EINHORN_FD_0.. name, acknowledges through the command socket
# with what Ruby's own YAML library writes, drains on USR2. Answers `pid version` and closes.
require 'socket'
require 'yaml'
require 'set'

def encode(message)
  YAML.dump(message).gsub('%', '%25').gsub("\n", '%0A') + "\n"
end

def decode(line)
  text = line.chomp.gsub(/%(25|0A)/) { |match| match == '%25' ? '%' : "\n" }
  YAML.safe_load(text, permitted_classes: [Symbol, Set, Time], aliases: true)
end

def connect
  if ENV['EINHORN_SOCK_FD']
    UNIXSocket.for_fd(ENV['EINHORN_SOCK_FD'].to_i)
  else
    UNIXSocket.new(ENV.fetch('EINHORN_SOCK_PATH'))
  end
end

# As einhorn's client library: asks the command socket, and returns every reply.
if ARGV[0] == 'ask'
  socket = UNIXSocket.new(ARGV[1])
  socket.write(encode({ 'id' => 1, 'command' => ARGV[2], 'args' => ARGV[3..] }))
  loop do
    reply = decode(socket.readline)
    raise "another id: #{reply}" unless reply['request_id'] == 1
    # What a client does with the state: the key is a symbol.
    if ARGV[2] == 'state'
      state = YAML.safe_load(reply['message'], permitted_classes: [Symbol, Set, Time], aliases: true).fetch(:state)
      puts state[:children].keys.join(' '), state[:config][:number], state[:children].values.count { |child| child[:acked] }
      state[:children].each_value { |child| raise 'no time' unless child[:spinup_time].is_a?(Time) }
    else
      puts reply['message']
    end
    break unless reply['wait']
  end
  exit
end

raise 'not a direct child' unless ENV.fetch('EINHORN_MASTER_PID').to_i == Process.ppid
raise 'not a group of its own' unless Process.getpgrp == Process.pid
version = ARGV[0]
listener = TCPServer.for_fd(ENV.fetch('EINHORN_FD_0').to_i)
draining = false
Signal.trap('USR2') { draining = true }

sleep(ARGV[1].to_f)
socket = connect
socket.write(encode({ 'command' => 'worker:ack', 'pid' => Process.pid }))
raise 'a reply to an ack' unless socket.read.empty?
socket.close

until draining
  next unless listener.wait_readable(0.05)
  begin
    client = listener.accept_nonblock
  rescue IO::WaitReadable
    next
  end
  client.readpartial(4096)
  body = "#{Process.pid} #{version}"
  client.write("HTTP/1.1 200 OK\r\nContent-Length: #{body.bytesize}\r\nConnection: close\r\n\r\n#{body}")
  client.close
end
