with

source as (

    select * from {{ source('published', 'published_build') }}

),

renamed as (

    select
        build,
        baskets as basket_count,
        newest_ordered_at
    from source

)

select * from renamed
