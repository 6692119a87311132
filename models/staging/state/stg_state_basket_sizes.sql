with

source as (

    select * from {{ source('state', 'state_basket_sizes') }}

),

renamed as (

    select
        file_number,
        product_count,
        basket_count
    from source

)

select * from renamed
