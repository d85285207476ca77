# What the 2015 script was: a Sinatra application on WEBrick that answers the list and the document, an access log line each.
# It asked STS in every request; this one has its credential, as all that are measured here.
require 'sinatra'
require 'json'

set :environment, :production
set :server, 'webrick'
set :bind, '127.0.0.1'
set :port, ENV.fetch('PORT').to_i

BASE = '/latest/meta-data/iam/security-credentials/'.freeze
CREDENTIAL = JSON.parse(File.read(ENV.fetch('DOCUMENT'))).freeze

get(BASE) { 'exc_web' }
get("#{BASE}:role") do
  content_type 'text/plain'
  JSON.pretty_generate(CREDENTIAL)
end
